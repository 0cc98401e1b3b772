#include "launch/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace fastserve::launch {

void start_log(const std::string& level, bool leader) {
  const auto logger =
      std::make_shared<spdlog::logger>("fastserve", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%^%l:%$ %v");
  const auto wanted = spdlog::level::from_str(level);
  logger->set_level(leader ? wanted : std::max(wanted, spdlog::level::warn));
  spdlog::set_default_logger(logger);
}

}  // namespace fastserve::launch
