#pragma once

namespace fastserve::launch {

/// Leader: writes the job's exit code to the file that FASTSERVE_STATUS_FILE names, if it names one. A
/// launcher that lets a job go on when a rank dies ends with a code of its own, so the scripts take the code
/// from there.
void write_job_status(int exit_code);

}  // namespace fastserve::launch
