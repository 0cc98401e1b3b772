#pragma once

#include <cstdint>
#include <functional>

#include "launch/engine.hpp"

namespace fastserve::launch {

/// Leader: brings the engine up with a progress bar (on a terminal) and the start-up table on stderr. False
/// when there is no engine; the reason has been printed.
bool start_engine(engine& e, const options& settings);

/// The longest prompt and answer together that the engine will take; known before it is brought up.
std::int32_t context_of(const engine& e, const options& settings);

/// Every rank's way through a command that lasts as long as its engine: the leader starts it, does `work`,
/// whose result is the exit code, and ends it; the others follow. `check` comes before anything is loaded.
/// What they throw is printed, and the code is 1.
int run_with_engine(mpi::environment& env, const options& settings, const std::function<int(engine&)>& work,
                    const std::function<void(const engine&)>& check = {});

}  // namespace fastserve::launch
