#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

namespace fastserve::actors {

/// Who has been silent for too long. A plain object; times are the caller's clock.
///
/// The deadline follows the link: a peer whose signs lately came with gaps (a lossy network stalls TCP for
/// seconds, a starved machine its threads) gets `patience` times its longest gap, at most `most` deadlines,
/// and never less than the deadline. The gap is forgotten with a half-life of a minute. The idea is that of
/// accrual detectors (Hayashibara et al., 2004); the longest gap stands for the distribution because TCP's
/// stalls double and have no useful variance.
///
/// Signs may come aside of the link, too (mpi/datagrams.hpp). They count as long as the link itself was
/// silent for no more than `stall`: a peer that can be heard but not be worked with is dead in the end.
class liveness {
 public:
  using time = std::chrono::nanoseconds;

  static constexpr int patience = 4;  ///< two more doublings of a retransmission's timeout
  static constexpr int most = 10;

  /// Watches `peers` from `now` on. Each has `grace` for its first sign of life and `deadline` between two.
  liveness(std::size_t peers, time deadline, time grace, time now, time stall = {});

  void heard(std::size_t peer, time now);
  /// A sign that came aside of the link, at `then`. Returns whether it counts; one that was told before does
  /// not.
  bool heard_aside(std::size_t peer, time then);
  /// Not watched any more.
  void forget(std::size_t peer);

  /// Those that have become too late since the last look; they are forgotten. When the looks themselves come
  /// late (the process was stopped, or starved), or what was sent waits unread since `unread`, nobody is:
  /// everybody gets a new deadline.
  std::vector<std::size_t> look(time now, time unread = {});

  /// Since the last sign of life (or the start).
  time silence(std::size_t peer, time now) const { return now - peers_.at(peer).heard; }

  /// When at least half of those watched had been heard, each then or later; `now` where none is watched.
  time most_heard(time now) const;

  /// How long the peer may be silent now.
  time deadline(std::size_t peer) const;

 private:
  struct entry {
    bool watched = true;
    bool begun = false;  // was heard at least once
    time heard{};        // or the start
    time linked{};       // heard over the link, or the start
    time due{};
    time gap{};  // the longest lately between two signs of life
  };
  void note(entry& p, time before, time now) const;

  time deadline_;
  time stall_;
  time last_look_;
  std::vector<entry> peers_;
};

}  // namespace fastserve::actors
