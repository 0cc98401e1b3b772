#include "actors/liveness.hpp"

#include <algorithm>

namespace fastserve::actors {

liveness::liveness(std::size_t peers, time deadline, time grace, time now)
    : deadline_{deadline}, last_look_{now}, peers_(peers, {true, now, now + std::max(grace, deadline)}) {}

void liveness::heard(std::size_t peer, time now) {
  auto& p = peers_.at(peer);
  p.heard = now;
  p.due = now + deadline_;
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
      p.due = std::max(p.due, now + deadline_);
    } else if (now > p.due) {
      p.watched = false;
      out.push_back(i);
    }
  }
  return out;
}

}  // namespace fastserve::actors
