#pragma once

#include <chrono>

namespace fastserve::actors {

/// Whether the one thread that calls MPI stands still while the rest of the process runs: then nobody hears
/// this rank any more, nor does it hear anybody, and it has to end by itself. A process that stood still as a
/// whole, as one that was suspended, is given the time to catch up. A plain object; times are the caller's
/// clock.
class stuck_watch {
 public:
  using time = std::chrono::nanoseconds;

  /// Looks come every `period`; MPI may keep the thread for `limit`.
  stuck_watch(time period, time limit) : period_{period}, limit_{limit} {}

  /// `stalled`: for how long the thread has not come back from MPI.
  bool look(time now, time stalled) {
    const bool in_time = now - last_look_ <= 4 * period_;
    last_look_ = now;
    looks_ = in_time && stalled > limit_ ? looks_ + 1 : 0;
    return looks_ >= enough_looks;
  }

 private:
  static constexpr int enough_looks = 10;

  time period_;
  time limit_;
  time last_look_{};
  int looks_ = 0;
};

}  // namespace fastserve::actors
