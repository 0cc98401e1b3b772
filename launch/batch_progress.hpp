#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace fastserve::launch {

/// How far a batch is. Counts are of the whole batch; those of this run alone give the rates.
struct batch_state {
  std::uint64_t input_bytes_done = 0;  ///< of finished requests' lines
  std::uint64_t done = 0;              ///< finished requests, error lines included
  std::uint64_t failed = 0;
  std::uint64_t run_input_bytes = 0;  ///< of those, finished by this run
  std::uint64_t run_done = 0;
  std::uint64_t run_tokens_out = 0;
};

/// How far a batch is, for people: a line that fills on a terminal, a line a minute otherwise. Pure: returns
/// what to show, the time is an argument.
///
///     batch [##########--------------------]  33%  1,234 done  45.6/s  987 tokens/s  12 min left
class batch_progress {
 public:
  using time = std::chrono::steady_clock::time_point;

  /// `columns` of the terminal; 0 = unknown.
  batch_progress(std::uint64_t input_bytes, int columns, time start);

  /// What to write to a terminal; empty when the last drawing is younger than 100 ms.
  std::string draw(const batch_state& state, time now);
  /// The line for a log; empty when the last one is younger than a minute.
  std::string report(const batch_state& state, time now);

 private:
  std::string percent(const batch_state& state) const;
  std::string figures(const batch_state& state, time now) const;

  std::uint64_t input_bytes_;
  int columns_;
  time start_;
  time last_draw_;
  time last_report_;
};

/// "1.25 s", "45 s", "12 min", "3 h 05 min", "2 d 04 h"
std::string format_duration(double seconds);

}  // namespace fastserve::launch
