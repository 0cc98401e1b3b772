#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace fastserve::launch {

/// One line that fills while bytes are read. For terminals only: the caller decides. Returns what to write;
/// the time is an argument.
///
///     loading weights [##########--------------------]  33%  1.21 of 3.64 GB  2.05 GB/s
class progress_bar {
 public:
  using time = std::chrono::steady_clock::time_point;

  /// `columns` as the terminal has (0 = unknown); too narrow a one drops the bar, then the rate.
  progress_bar(std::string label, std::uint64_t total_bytes, int columns, time start);

  /// Empty when the last drawing is younger than 80 ms or shows the same.
  std::string update(std::uint64_t done_bytes, time now);

  /// Removes the line. Empty when nothing was drawn.
  std::string finish();

  /// "read 3.64 GB in 1.78 s, 2.05 GB/s": for the log.
  std::string summary(std::uint64_t done_bytes, time now) const;

 private:
  std::string draw(std::uint64_t done_bytes, time now) const;
  double rate(std::uint64_t done_bytes, time now) const;

  std::string label_;
  std::uint64_t total_bytes_;
  int columns_;
  time start_;
  time last_draw_{};
  std::string shown_;
};

}  // namespace fastserve::launch
