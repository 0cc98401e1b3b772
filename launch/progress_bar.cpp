#include "launch/progress_bar.hpp"

#include <algorithm>
#include <utility>

#include "launch/units.hpp"
#include "launch/utf8_text.hpp"

namespace fastserve::launch {

namespace {

constexpr auto redraw_interval = std::chrono::milliseconds{80};
constexpr int widest_bar = 40;
constexpr int narrowest_bar = 6;

}  // namespace

progress_bar::progress_bar(std::string label, std::uint64_t total_bytes, int columns, time start)
    : label_{std::move(label)},
      total_bytes_{total_bytes},
      columns_{columns > 0 ? columns : 80},
      start_{start} {}

std::string progress_bar::update(std::uint64_t done_bytes, time now) {
  const bool complete = done_bytes >= total_bytes_;
  if (!shown_.empty() && !complete && now - last_draw_ < redraw_interval) return {};
  std::string line = draw(std::min(done_bytes, total_bytes_), now);
  if (line == shown_) return {};
  last_draw_ = now;
  shown_ = std::move(line);
  return "\r" + shown_ + "\x1b[K";
}

std::string progress_bar::finish() {
  if (shown_.empty()) return {};
  shown_.clear();
  return "\r\x1b[K";
}

std::string progress_bar::summary(std::uint64_t done_bytes, time now) const {
  const double seconds = std::chrono::duration<double>(now - start_).count();
  return "read " + format_bytes(done_bytes) + " in " + format_measure(seconds) + " s, " +
         format_bytes(static_cast<std::uint64_t>(rate(done_bytes, now))) + "/s";
}

std::string progress_bar::draw(std::uint64_t done_bytes, time now) const {
  const double share =
      total_bytes_ == 0 ? 1.0 : static_cast<double>(done_bytes) / static_cast<double>(total_bytes_);
  std::string percent = std::to_string(static_cast<int>(share * 100.0)) + "%";
  percent.insert(0, 4 - std::min<std::size_t>(4, percent.size()), ' ');
  const std::string amount = "  " + format_bytes(done_bytes) + " of " + format_bytes(total_bytes_);
  const std::string speed = "  " + format_bytes(static_cast<std::uint64_t>(rate(done_bytes, now))) + "/s";

  // The last column stays free: some terminals wrap as soon as it is written.
  int room = columns_ - 1 - text_columns(label_) - static_cast<int>(percent.size());
  if (room < 1) return percent.substr(0, static_cast<std::size_t>(std::max(0, columns_ - 1)));
  std::string tail;
  for (const std::string& part : {amount, speed})
    if (static_cast<int>(part.size()) <= room - 1) {
      tail += part;
      room -= static_cast<int>(part.size());
    }
  const int bar = std::min(widest_bar, room - 4);
  std::string middle;
  if (bar >= narrowest_bar) {
    const auto full = static_cast<std::size_t>(share * bar);
    middle = " [" + std::string(full, '#') + std::string(static_cast<std::size_t>(bar) - full, '-') + "]";
  }
  return label_ + middle + " " + percent + tail;
}

double progress_bar::rate(std::uint64_t done_bytes, time now) const {
  const double seconds = std::chrono::duration<double>(now - start_).count();
  return seconds > 0.0 ? static_cast<double>(done_bytes) / seconds : 0.0;
}

}  // namespace fastserve::launch
