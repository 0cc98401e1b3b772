#include "launch/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "launch/status_line.hpp"

namespace fastserve::launch {

namespace {

// A progress bar is drawn anew behind each line.
class log_sink final : public spdlog::sinks::stderr_color_sink_mt {
 public:
  void log(const spdlog::details::log_msg& message) override {
    status_line::make_room_for([&] { spdlog::sinks::stderr_color_sink_mt::log(message); });
  }
};

}  // namespace

void start_log(const std::string& level, bool leader) {
  const auto logger = std::make_shared<spdlog::logger>("fastserve", std::make_shared<log_sink>());
  logger->set_pattern("%^%l:%$ %v");
  const auto wanted = spdlog::level::from_str(level);
  logger->set_level(leader ? wanted : std::max(wanted, spdlog::level::warn));
  spdlog::set_default_logger(logger);
}

}  // namespace fastserve::launch
