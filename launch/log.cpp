#include "launch/log.hpp"

#include <spdlog/details/os.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

#include "launch/status_line.hpp"

namespace fastserve::launch {

namespace {

std::string_view color_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::warn:
      return "\x1b[33;1m";
    case spdlog::level::err:
    case spdlog::level::critical:
      return "\x1b[31;1m";
    case spdlog::level::info:
      return "\x1b[32m";
    default:
      return "\x1b[36m";
  }
}

// What is logged makes room for a progress bar, and for the prompt of a console.
class log_sink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t buffer;
    formatter_->format(message, buffer);
    std::string text{buffer.data(), buffer.size()};
    if (colors_ && message.color_range_end > message.color_range_start) {
      text.insert(message.color_range_end, "\x1b[m");
      text.insert(message.color_range_start, color_of(message.level));
    }
    status_line::say(text);
  }
  void flush_() override { std::fflush(stderr); }

 private:
  const bool colors_ = spdlog::details::os::in_terminal(stderr) && spdlog::details::os::is_color_terminal();
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
