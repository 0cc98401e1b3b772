#include "actors/monitor.hpp"

#include <utility>

#include "actors/clock.hpp"

namespace fastserve::actors {

namespace {

// Over which the ranks' steps are compared.
constexpr std::chrono::seconds pace_interval{2};

}  // namespace

monitor_state::monitor_state(mpi::base_of<monitor_actor>* self, monitor_setup setup)
    : self_{self},
      setup_{std::move(setup)},
      ranks_{setup_.nodes.size(), setup_.options.deadline, setup_.grace, now(), setup_.options.stall},
      dead_(setup_.nodes.size()),
      steps_{setup_.nodes.size(), setup_.options.slow_factor},
      interval_end_{now() + pace_interval} {
  ranks_.forget(static_cast<std::size_t>(setup_.rank));
  for (const auto rank : setup_.dead) {
    ranks_.forget(static_cast<std::size_t>(rank));
    dead_[static_cast<std::size_t>(rank)] = true;
  }
}

monitor_actor::behavior_type monitor_state::make_behavior() {
  mpi::send(self_, monitor_actor{self_}, tick{});
  return {
      [this](const heartbeat& beat) { on_heartbeat(beat); },
      [this](const tick&) { on_tick(); },
  };
}

void monitor_state::on_heartbeat(const heartbeat& beat) {
  const auto rank = static_cast<std::size_t>(beat.rank);
  if (beat.rank < 0 || rank >= dead_.size()) return;
  ranks_.heard(rank, now());
  if (rank < shares_.size() && beat.epoch == shares_[rank].epoch)
    steps_.heard(rank, beat.steps, beat.compute_ns);
}

void monitor_state::on_tick() {
  mpi::send_after(self_, setup_.options.heartbeat, monitor_actor{self_}, tick{});
  const auto time = now();
  const auto* aside = setup_.datagrams;
  for (std::size_t r = 0; aside != nullptr && r < dead_.size(); ++r)
    if (!dead_[r]) ranks_.heard_aside(r, aside->last(static_cast<int>(r)).time_since_epoch());
  const auto stalled_for = setup_.stalled_for();
  for (const auto rank : ranks_.look(time, stalled_for)) {
    dead_[rank] = true;
    setup_.lost(static_cast<int>(rank), ranks_.silence(rank, time));
  }
  setup_.most_heard(ranks_.most_heard(time));
  const leader_beat beat{setup_.epoch(), setup_.rank};
  if (time > interval_end_) {
    interval_end_ = time + pace_interval;
    for (const auto& [rank, times] : steps_.look()) setup_.slow(static_cast<int>(rank), times);
    if (auto shares = setup_.shares(); shares != shares_) {
      shares_ = std::move(shares);
      std::vector<double> times;
      std::vector<int> groups;
      for (const auto& s : shares_) {
        times.push_back(s.share);
        groups.push_back(s.pipeline);
      }
      steps_.set_shares(times, groups);
    }
  }
  for (std::size_t r = 0; r < dead_.size(); ++r)
    if (!dead_[r] && static_cast<int>(r) != setup_.rank) {
      mpi::send(self_, setup_.nodes[r], beat);
      if (aside != nullptr && stalled_for < setup_.options.deadline / 2) aside->send(static_cast<int>(r));
    }
}

}  // namespace fastserve::actors
