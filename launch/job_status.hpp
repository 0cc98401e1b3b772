#pragma once

#include <string>

namespace fastserve::launch {

// The file that FASTSERVE_STATUS_FILE names, if it names one, gets the job's exit code. A launcher that lets
// a job go on when a rank dies ends with a code of its own, so the scripts take the code from there.

/// Every rank, before MPI starts: removes what an earlier job left, which a reader would take for this one's.
void clear_job_status();
/// Leader, at the start: why the file could not be written in the end; empty when it can.
std::string job_status_problem();
/// Leader.
void write_job_status(int exit_code);

}  // namespace fastserve::launch
