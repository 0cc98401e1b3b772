#include "actors/liveness.hpp"

#include <algorithm>
#include <cmath>

namespace fastserve::actors {

namespace {

constexpr std::chrono::duration<double> half_life{60};

liveness::time faded(liveness::time gap, liveness::time since) {
  const auto share = std::exp2(-std::chrono::duration<double>{since} / half_life);
  return std::chrono::duration_cast<liveness::time>(gap * share);
}

}  // namespace

liveness::liveness(std::size_t peers, time deadline, time grace, time now, time stall)
    : deadline_{deadline}, stall_{stall}, last_look_{now}, peers_(peers) {
  for (auto& p : peers_) {
    p.heard = p.linked = now;
    p.due = now + std::max(grace, deadline);
  }
}

// The way to the first sign is no gap, nor is what passed while the watcher itself stood still.
void liveness::note(entry& p, time before, time now) const {
  if (p.begun && now - last_look_ <= deadline_ / 2)
    p.gap = std::max(now - before, faded(p.gap, now - p.heard));
  p.heard = now;
}

void liveness::heard(std::size_t peer, time now) {
  auto& p = peers_.at(peer);
  note(p, p.linked, now);  // signs aside do not make a bad link a good one
  p.begun = true;
  p.linked = now;
  p.due = now + deadline(peer);
}

bool liveness::heard_aside(std::size_t peer, time then) {
  auto& p = peers_.at(peer);
  if (then <= p.heard || then - p.linked > stall_) return false;
  note(p, p.heard, then);
  p.due = std::max(p.due, then + deadline(peer));
  return true;
}

liveness::time liveness::deadline(std::size_t peer) const {
  return std::clamp(patience * peers_.at(peer).gap, deadline_, most * deadline_);
}

liveness::time liveness::most_heard(time now) const {
  std::vector<time> heard;
  for (const auto& p : peers_)
    if (p.watched) heard.push_back(p.heard);
  if (heard.empty()) return now;
  const auto half = heard.begin() + static_cast<std::ptrdiff_t>((heard.size() - 1) / 2);
  std::nth_element(heard.begin(), half, heard.end(), std::greater<>{});
  return *half;
}

void liveness::forget(std::size_t peer) { peers_.at(peer).watched = false; }

std::vector<std::size_t> liveness::look(time now, time unread) {
  const bool late = std::max(now - last_look_, unread) > deadline_ / 2;
  last_look_ = now;
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    auto& p = peers_[i];
    if (!p.watched) continue;
    if (late) {
      p.due = std::max(p.due, now + deadline(i));
    } else if (now > p.due) {
      p.watched = false;
      out.push_back(i);
    }
  }
  return out;
}

}  // namespace fastserve::actors
