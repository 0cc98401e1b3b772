#pragma once

#include "launch/engine.hpp"

namespace fastserve::launch {

/// Leader: brings the engine up with a progress bar (on a terminal) and the start-up table on stderr. False
/// when there is no engine; the reason has been printed.
bool start_engine(engine& e);

}  // namespace fastserve::launch
