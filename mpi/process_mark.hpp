#pragma once

#include <string>

namespace fastserve::mpi {

/// Names this process among all of all machines: machine, boot, PID namespace, PID, start time.
std::string own_process();

/// Kills (SIGKILL) the process of this mark if it can be reached from here: it runs in the same PID namespace
/// of the same machine, and is the very one, not another with its number. True when it is gone or going.
bool end_process(const std::string& mark);

/// Whether the process of this mark is known to be no more. False for one that cannot be looked at from here.
bool process_is_gone(const std::string& mark);

}  // namespace fastserve::mpi
