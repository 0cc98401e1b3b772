#pragma once

#include <functional>
#include <set>
#include <vector>

#include "actors/liveness.hpp"

namespace fastserve::actors {

/// Who leads when the leader is silent: each rank's own view, fed with what it hears. A plain object; times
/// are the caller's clock.
///
/// The leader is the lowest rank that lives. So its number is its term, too: a leader with a higher number
/// has taken over from one with a lower, a rank never returns, and no two leaders have the same. The others
/// are its heirs, in order; the first is the standby. A rank for which the leader was silent for the deadline
/// asks all others, and leads when most of the ranks left (itself among them, those known to be dead not) do
/// not hear the leader either: who is alone with that opinion is cut off, and ends itself in time. An heir
/// with others before it gives them half a deadline first, and leads when none of them answers: they may have
/// died with the leader.
class succession {
 public:
  using time = liveness::time;

  struct setup {
    int rank = 0;
    int ranks = 1;
    bool heirs = false;  ///< false: nobody takes over, the ranks only fence themselves
    time deadline{};     ///< a leader silent for this long is succeeded
    time fence{};        ///< a rank that hears no leader for this long is to end
    time grace{};        ///< for the leader's first word
    time stall{};        ///< see liveness
    /// Whether a rank's process is known to be gone: it ran on this machine, and does no more.
    std::function<bool(int rank)> gone = [](int) { return false; };
  };

  enum class verdict {
    same,         ///< the leader that is known
    follow,       ///< a new one: it has taken over, those before it are lost
    over,         ///< one whose time is over
    passed_over,  ///< a new one that takes this rank for lost: it is to end
  };

  /// What is to be done now.
  struct order {
    bool fence = false;      ///< end the rank
    bool lead = false;       ///< take over; all ranks below this one are lost
    std::vector<int> calls;  ///< ask these
  };

  succession(setup with, time now);

  /// A word of a leader, whatever it says.
  verdict heard(int leader, time now);
  /// A sign of life of the leader that came aside of MPI, at `then`; see liveness.
  void heard_aside(time then);
  /// A rank was declared dead.
  void lost(int rank) { lost_.insert(rank); }
  /// A rank answered the calls.
  void answered(int rank, bool silent);
  /// What this rank answers to another one's call.
  bool silent(time now) const { return silence(now) > with_.deadline / 2; }
  /// To be called at each heartbeat and after each answer. `unread` as for liveness::look().
  order look(time now, time unread = {});
  /// The job ends: nobody leads or ends for silence any more.
  void stop() { stopped_ = true; }

  int leader() const { return leader_; }
  bool is_lost(int rank) const { return lost_.contains(rank); }
  /// Of the leader.
  time silence(time now) const { return fence_.silence(0, now); }

 private:
  void listen_anew(time from);
  bool has_before() const;
  bool most_agree() const;
  void ask(time now, order& out);
  void take_over(order& out);

  setup with_;
  int leader_ = 0;
  std::set<int> lost_;
  bool stopped_ = false;
  liveness fence_;
  liveness watch_;
  time last_look_;
  enum class phase { listening, waiting, asking } phase_ = phase::listening;
  time due_{};  // of the phase
  std::set<int> answers_;
  std::set<int> agree_;
};

}  // namespace fastserve::actors
