#pragma once

#include <chrono>

namespace fastserve::actors {

/// What the plain objects are given as the time: monotonic, of this machine alone.
inline std::chrono::nanoseconds now() { return std::chrono::steady_clock::now().time_since_epoch(); }

}  // namespace fastserve::actors
