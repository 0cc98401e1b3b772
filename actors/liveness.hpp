#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

namespace fastserve::actors {

/// Who has been silent for too long. A plain object; times are the caller's clock.
class liveness {
 public:
  using time = std::chrono::nanoseconds;

  /// Watches `peers` from `now` on. Each has `grace` for its first sign of life and `deadline` between two.
  liveness(std::size_t peers, time deadline, time grace, time now);

  void heard(std::size_t peer, time now);
  /// Not watched any more.
  void forget(std::size_t peer);

  /// Those that have become too late since the last look; they are forgotten. When the looks themselves come
  /// late (the process was stopped, or starved), or what was sent waits unread since `unread`, nobody is:
  /// everybody gets a new deadline.
  std::vector<std::size_t> look(time now, time unread = {});

  /// Since the last sign of life (or the start).
  time silence(std::size_t peer, time now) const { return now - peers_.at(peer).heard; }

 private:
  struct entry {
    bool watched = true;
    time heard{};  // or the start
    time due{};
  };
  time deadline_;
  time last_look_;
  std::vector<entry> peers_;
};

}  // namespace fastserve::actors
