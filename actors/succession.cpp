#include "actors/succession.hpp"

#include <algorithm>
#include <utility>

namespace fastserve::actors {

succession::succession(setup with, time now)
    : with_{std::move(with)},
      fence_{1, with_.fence, with_.grace, now, with_.stall},
      watch_{1, with_.deadline, with_.grace, now, with_.stall},
      last_look_{now} {}

succession::verdict succession::heard(int leader, time now) {
  if (leader < leader_ || leader >= with_.ranks) return verdict::over;
  if (leader > with_.rank) return verdict::passed_over;
  fence_.heard(0, now);
  // The silence before a new leader's first word was the old one's: it says nothing of the way to the new
  // one.
  if (phase_ == phase::listening && leader == leader_) {
    watch_.heard(0, now);
  } else {
    listen_anew(now);
  }
  if (leader == leader_) return verdict::same;
  for (int r = leader_; r < leader; ++r) lost_.insert(r);
  leader_ = leader;
  return verdict::follow;
}

// From a first word at `from`, with a deadline for the next.
void succession::listen_anew(time from) {
  phase_ = phase::listening;
  watch_ = liveness{1, with_.deadline, with_.deadline, from, with_.stall};
}

// The fence's watch knows for how long MPI has been silent; the other one may be of yesterday.
void succession::heard_aside(time then) {
  if (!fence_.heard_aside(0, then)) return;
  if (phase_ == phase::listening) {
    watch_.heard_aside(0, then);
  } else {
    listen_anew(then);
  }
}

void succession::answered(int rank, bool silent) {
  if (phase_ != phase::asking || lost_.contains(rank)) return;
  answers_.insert(rank);
  if (silent) agree_.insert(rank);
}

// Whether there may be an heir between the leader and this rank.
bool succession::has_before() const {
  for (int r = leader_ + 1; r < with_.rank; ++r)
    if (!lost_.contains(r) && !with_.gone(r)) return true;
  return false;
}

bool succession::most_agree() const {
  int others = 0;  // than the leader
  int agree = 0;
  for (int r = leader_ + 1; r < with_.ranks; ++r) {
    if (lost_.contains(r)) continue;
    const bool agrees = r == with_.rank || agree_.contains(r);
    if (!agrees && with_.gone(r)) continue;
    ++others;
    agree += agrees ? 1 : 0;
  }
  return 2 * agree > others;
}

void succession::ask(time now, order& out) {
  answers_.clear();
  agree_.clear();
  for (int r = leader_ + 1; r < with_.ranks; ++r)
    if (r != with_.rank && !lost_.contains(r)) out.calls.push_back(r);
  phase_ = phase::asking;
  due_ = now + with_.deadline / 2;
}

void succession::take_over(order& out) {
  out.lead = true;
  for (int r = 0; r < with_.rank; ++r) lost_.insert(r);
  leader_ = with_.rank;
}

succession::order succession::look(time now, time unread) {
  order out;
  const bool late = std::max(now - last_look_, unread) > with_.deadline / 2;
  last_look_ = now;
  if (stopped_ || leader_ == with_.rank) return out;
  if (!fence_.look(now, unread).empty()) {
    out.fence = true;
    return out;
  }
  if (!with_.heirs) return out;
  if (late) due_ = std::max(due_, now + with_.deadline / 2);
  switch (phase_) {
    case phase::listening:
      if (watch_.look(now, unread).empty()) break;
      if (has_before()) {
        phase_ = phase::waiting;
        due_ = now + with_.deadline / 2;
        break;
      }
      ask(now, out);
      if (most_agree()) take_over(out);
      break;
    case phase::waiting:
      if (now >= due_) ask(now, out);
      break;
    case phase::asking: {
      const bool first = !has_before();
      const bool before = std::any_of(answers_.begin(), answers_.end(),
                                      [this](int r) { return r > leader_ && r < with_.rank; });
      if (!late && (first || now >= due_) && !before && most_agree()) {
        take_over(out);
      } else if (now >= due_) {
        phase_ = phase::waiting;
        due_ = now + (first ? time{} : with_.deadline / 2);
      }
      break;
    }
  }
  return out;
}

}  // namespace fastserve::actors
