#include "launch/batch_progress.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

constexpr auto draw_interval = std::chrono::milliseconds{100};
constexpr auto report_interval = std::chrono::minutes{1};
constexpr double most_seconds = 1e9;  // thirty years are as good as never
constexpr int widest_bar = 30;
constexpr int narrowest_bar = 6;

std::string pair_of(long long big, const char* unit, long long small, const char* small_unit) {
  char text[64];
  std::snprintf(text, sizeof text, "%lld %s %02lld %s", big, unit, small, small_unit);
  return text;
}

}  // namespace

std::string format_duration(double seconds) {
  if (!(seconds >= 0)) return "-";
  if (seconds > most_seconds) return "years";
  if (seconds < 9.95) return format_measure(seconds) + " s";
  const auto s = std::llround(seconds);
  if (s < 100) return std::to_string(s) + " s";
  const auto minutes = (s + 30) / 60;
  if (minutes < 100) return std::to_string(minutes) + " min";
  const auto hours = minutes / 60;
  if (hours < 48) return pair_of(hours, "h", minutes % 60, "min");
  return pair_of(hours / 24, "d", hours % 24, "h");
}

batch_progress::batch_progress(std::uint64_t input_bytes, int columns, time start)
    : input_bytes_{input_bytes},
      columns_{columns > 0 ? columns : 80},
      start_{start},
      last_draw_{start - draw_interval},
      last_report_{start} {}

std::string batch_progress::percent(const batch_state& state) const {
  const double share = input_bytes_ == 0
                           ? 1.0
                           : static_cast<double>(state.input_bytes_done) / static_cast<double>(input_bytes_);
  // 100% is said of what is finished, not of what is rounded.
  return std::to_string(static_cast<int>(std::min(share, 1.0) * 100.0)) + "%";
}

std::string batch_progress::figures(const batch_state& state, time now) const {
  const double seconds = std::chrono::duration<double>(now - start_).count();
  std::string out = "  " + format_count(static_cast<std::int64_t>(state.done)) + " done";
  if (state.failed > 0) out += "  " + format_count(static_cast<std::int64_t>(state.failed)) + " failed";
  if (seconds <= 0 || state.run_done == 0) return out;
  out += "  " + format_measure(static_cast<double>(state.run_done) / seconds) + "/s";
  out += "  " + format_measure(static_cast<double>(state.run_tokens_out) / seconds) + " tokens/s";
  if (state.run_input_bytes > 0 && state.input_bytes_done < input_bytes_) {
    const auto left = static_cast<double>(input_bytes_ - state.input_bytes_done);
    out += "  " + format_duration(left * seconds / static_cast<double>(state.run_input_bytes)) + " left";
  }
  return out;
}

std::string batch_progress::draw(const batch_state& state, time now) {
  if (now - last_draw_ < draw_interval) return {};
  last_draw_ = now;
  const auto share = percent(state);
  auto tail = std::string(4 - std::min<std::size_t>(4, share.size()), ' ') + share + figures(state, now);
  // The last column stays free: some terminals wrap as soon as it is written.
  const int room = columns_ - 1;
  const int bar = std::min(widest_bar, room - 9 - static_cast<int>(tail.size()));
  std::string line = "batch";
  if (bar >= narrowest_bar) {
    const double done =
        input_bytes_ == 0
            ? 1.0
            : std::min(1.0, static_cast<double>(state.input_bytes_done) / static_cast<double>(input_bytes_));
    const auto full = static_cast<std::size_t>(done * bar);
    line += " [" + std::string(full, '#') + std::string(static_cast<std::size_t>(bar) - full, '-') + "]";
  }
  line += " " + tail;
  return "\r" + line.substr(0, static_cast<std::size_t>(std::max(room, 0))) + "\x1b[K";
}

std::string batch_progress::report(const batch_state& state, time now) {
  if (now - last_report_ < report_interval) return {};
  last_report_ = now;
  return "batch " + percent(state) + figures(state, now);
}

}  // namespace fastserve::launch
