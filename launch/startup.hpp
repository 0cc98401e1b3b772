#pragma once

#include <functional>

#include "launch/engine.hpp"

namespace fastserve::launch {

/// Leader: brings the engine up with a progress bar (on a terminal) and the start-up table on stderr. False
/// when there is no engine; the reason has been printed.
bool start_engine(engine& e);

/// Every rank's way through a command that lasts as long as its engine: the leader starts it, does `work`,
/// whose result is the exit code, and ends it; the others follow. What `work` throws is printed, and the code
/// is 1.
int run_with_engine(mpi::environment& env, const options& settings, const std::function<int(engine&)>& work);

}  // namespace fastserve::launch
