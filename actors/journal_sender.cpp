#include "actors/journal_sender.hpp"

#include <utility>

#include "actors/clock.hpp"
#include "actors/rank_host.hpp"

namespace fastserve::actors {

namespace {

// Between two parts, unless there is much to tell.
constexpr std::chrono::milliseconds interval{50};
constexpr std::size_t much_tokens = 8192;

// After a standby that did not answer.
constexpr std::chrono::milliseconds rest{100};

}  // namespace

journal_sender::journal_sender(rank_host& host, std::function<leader_footing()> footing)
    : host_{host},
      footing_{std::move(footing)},
      deadline_{host.context().failover.deadline},
      feed_{host.context().profile.rank},
      lease_{deadline_} {
  thread_ = std::thread{[this] { serve(); }};
}

journal_sender::~journal_sender() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  work_.notify_all();
  renewed_.notify_all();
  thread_.join();
}

void journal_sender::add(std::uint64_t request, std::int32_t choice, const model::sampled_token& token,
                         bool details) {
  const std::lock_guard lock{mutex_};
  feed_.add(request, choice, token, details);
  if (feed_.waiting() == much_tokens) work_.notify_all();
}

void journal_sender::close(std::uint64_t request) {
  const std::lock_guard lock{mutex_};
  feed_.close(request);
}

void journal_sender::wait_for_lease() {
  for (;;) {
    look();
    std::unique_lock lock{mutex_};
    if (stopping_ || lease_.valid(now())) return;
    renewed_.wait_for(lock, interval);
  }
}

// With mutex_ free: the coordinator has one of its own.
leader_footing journal_sender::look() {
  const auto out = footing_();
  const std::lock_guard lock{mutex_};
  lease_.hear_most(out.most_heard);
  if (out.sight_lost_at > sight_lost_at_) lease_.lose_sight(sight_lost_at_ = out.sight_lost_at);
  return out;
}

void journal_sender::serve() {
  caf::scoped_actor self{host_.system()};
  int known = -2;  // not asked yet: a leader may be alone from the start
  for (;;) {
    const auto to = look().standby;
    {
      std::unique_lock lock{mutex_};
      if (to != known) {
        if (known >= 0) lease_.lose(now());
        lease_.be_alone(to < 0);
        feed_.begin_anew();
        known = to;
      }
    }
    const bool taken = to < 0 || send(self, to);
    renewed_.notify_all();
    std::unique_lock lock{mutex_};
    const auto pause = taken ? interval : rest;
    work_.wait_for(lock, pause,
                   [&] { return stopping_ || (taken && to >= 0 && feed_.waiting() >= much_tokens); });
    if (stopping_) return;
  }
}

// One part, and the answer to it.
bool journal_sender::send(caf::scoped_actor& self, int to) {
  journal_part part;
  {
    const std::lock_guard lock{mutex_};
    part = feed_.next();
  }
  const auto sent = now();
  bool taken = false;
  mpi::request(self.ptr(), host_.resolve<node_actor>(to, role::node), deadline_, std::move(part))
      .receive(
          [&](const journal_ack& ack) {
            const std::lock_guard lock{mutex_};
            taken = feed_.acknowledged(ack);
            if (taken) lease_.renew(sent);
          },
          [&](const caf::error&) {
            const std::lock_guard lock{mutex_};
            feed_.begin_anew();
          });
  return taken;
}

}  // namespace fastserve::actors
