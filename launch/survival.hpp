#pragma once

#include <string>

namespace fastserve::launch {

/// What the launcher of this job was not told, so that it would end the job when a rank dies; empty when it
/// was told, or when nothing is known about the launcher.
std::string missing_launcher_flag();

/// Open MPI's mpirun (or orterun) started this rank. It passes SIGUSR1 on, but kills its ranks a second after
/// it was told to end by SIGTERM or SIGINT, whatever odls_base_sigkill_timeout says (4.1).
bool started_by_mpirun();

}  // namespace fastserve::launch
