#pragma once

#include <algorithm>
#include <chrono>

namespace fastserve::actors {

/// Whether a leader may still write into what its successor will write into. A plain object; times are the
/// caller's clock.
///
/// The standby acknowledges the leader's words, and takes over a deadline after the last one that it
/// acknowledged at the earliest. The leader counts from when it asked, and for less than that deadline: so
/// when its standby takes over, the lease has run out, on clocks that need not agree on the time but on how
/// fast it passes. A leader whose standby was lost waits for a deadline before it writes again, with another
/// standby or alone: the lost one may only have been cut off, and then has taken over meanwhile, which can be
/// seen in the files.
///
/// The standby may be on this side of a cut and most others on the other one, where they put up a leader of
/// their own (actors/succession). So most others must have been heard lately, too, and after a loss that may
/// be a cut the leader waits for as long as it takes those to agree and to begin.
class write_lease {
 public:
  using time = std::chrono::nanoseconds;

  explicit write_lease(time deadline) : length_{deadline * 7 / 10}, pause_{deadline} {}

  /// The standby acknowledged what was sent at `sent`.
  void renew(time sent) { until_ = std::max(until_, sent + length_); }
  /// At least half of the others that are not lost were heard at `at` or later.
  void hear_most(time at) { most_heard_ = at; }
  /// The standby is lost.
  void lose(time now) {
    until_ = now;
    wait(now + pause_);
  }
  /// Ranks are lost that may be alive elsewhere.
  void lose_sight(time now) { wait(now + pauses_of_a_cut * pause_); }
  /// There is no other rank, so that nobody can take over.
  void be_alone(bool alone) { alone_ = alone; }

  bool valid(time now) const {
    return now >= from_ && (alone_ || (now < until_ && now - most_heard_ < length_));
  }

 private:
  // They miss the leader for one, ask each other for another, and then one of them begins.
  static constexpr int pauses_of_a_cut = 3;

  void wait(time until) { from_ = std::max(from_, until); }

  time length_;
  time pause_;
  time from_ = time::min();
  time until_ = time::min();
  time most_heard_{};
  bool alone_ = false;
};

}  // namespace fastserve::actors
