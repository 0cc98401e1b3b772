#pragma once

#include <string>

namespace fastserve::launch {

/// Sends spdlog's default logger to stderr with the given level ("info", "warn", ...). Only the leader logs
/// below warnings: N ranks would say the same N times.
void start_log(const std::string& level, bool leader);

}  // namespace fastserve::launch
