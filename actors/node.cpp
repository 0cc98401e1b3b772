#include "actors/node.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "actors/clock.hpp"
#include "mpi/process_mark.hpp"

namespace fastserve::actors {

namespace {

// For the leader's first word.
constexpr std::chrono::seconds grace{60};

// MPI may be at something large for a while.
constexpr std::chrono::nanoseconds least_stuck = std::chrono::seconds{10};

succession::setup setup_of(const rank_context& context) {
  succession::setup out;
  out.rank = context.profile.rank;
  out.ranks = static_cast<int>(context.processes.size());
  out.heirs = context.failover.standby;
  out.deadline = context.failover.deadline;
  out.fence = context.failover.fence;
  out.grace = grace;
  out.stall = context.failover.stall;
  out.gone = [&context](int rank) {
    return mpi::process_is_gone(context.processes[static_cast<std::size_t>(rank)]);
  };
  return out;
}

}  // namespace

node_state::node_state(mpi::base_of<node_actor>* self, rank_context& context, executor_actor executor,
                       cache_actor cache)
    : self_{self},
      context_{context},
      executor_{std::move(executor)},
      cache_{std::move(cache)},
      leader_{setup_of(context), now()},
      mpi_{context.failover.heartbeat,
           std::max<std::chrono::nanoseconds>({context.failover.fence, context.failover.stall, least_stuck})},
      replica_{context.profile.rank} {}

node_actor::behavior_type node_state::make_behavior() {
  mpi::send(self_, node_actor{self_}, tick{});
  return {
      [this](const profile_request&) {
        auto profile = context_.profile;
        profile.first_layer = place_.first_layer;
        profile.last_layer = place_.last_layer;
        return profile;
      },
      [this](const link_request& request) { return mpi::delegate(self_, executor_, request); },
      [this](const stage_assignment& place) {
        if (place.epoch >= epoch_) place_ = place;
        // Or the GPUs would wait for one another until a deadline.
        for (const auto rank : place.link_ranks)
          if (leader_.is_lost(rank)) context_.channel->end_epoch(place.epoch);
        return mpi::delegate(self_, executor_, place);
      },
      [this](const kv_allotment& allotment) { return mpi::delegate(self_, cache_, allotment); },
      [this](const leader_beat& beat) {
        heard_epoch_ = std::max(heard_epoch_, beat.epoch);
        hear(beat.leader);
      },
      [this](const rank_lost& lost) {
        if (lost.rank == context_.profile.rank || !exists(lost.rank)) return;
        leader_.lost(lost.rank);
        context_.lose(lost.rank);
        const auto& with = place_.link_ranks;
        if (std::find(with.begin(), with.end(), lost.rank) != with.end())
          context_.channel->end_epoch(place_.epoch);
      },
      [this](const heir_call& call) {
        if (!exists(call.rank)) return;
        mpi::send(self_, context_.node_of(call.rank),
                  heir_reply{context_.profile.rank, leader_.silent(now())});
      },
      [this](const heir_reply& reply) {
        leader_.answered(reply.rank, reply.silent);
        look();
      },
      [this](const journal_part& part) {
        hear(part.leader);
        return replica_.take(part);
      },
      [this](const epoch_change& change) { return begin(change.epoch); },
      [this](const tick&) { on_tick(); },
      [this](const stop_rank& stop) {
        leader_.stop();
        // An executor that waits for activations, or moves, is released by the end of its epoch.
        context_.channel->end_epoch(std::numeric_limits<std::uint32_t>::max());
        context_.moves->close();
        context_.leave(stop.exit_code);
      },
  };
}

void node_state::on_tick() {
  mpi::send_after(self_, context_.failover.heartbeat, node_actor{self_}, tick{});
  if (const auto* aside = context_.datagrams.get())
    leader_.heard_aside(aside->last(leader_.leader()).time_since_epoch());
  if (const auto stalled = context_.stalled_for(); mpi_.look(now(), stalled))
    context_.fence("MPI has not returned for " +
                   std::to_string(std::chrono::duration_cast<std::chrono::seconds>(stalled).count()) + " s");
  look();
  // A rank whose MPI is stuck has to fall silent.
  if (context_.datagrams && context_.stalled_for() < context_.failover.deadline / 2)
    context_.datagrams->send(leader_.leader());
  const auto& v = *context_.vitals;
  mpi::send(self_, context_.monitor_of(leader_.leader()),
            heartbeat{context_.profile.rank, epoch_, v.steps, v.rows, v.compute_ns});
}

void node_state::hear(int leader) {
  const auto before = leader_.leader();
  switch (leader_.heard(leader, now())) {
    case succession::verdict::same:
    case succession::verdict::over:
      return;
    case succession::verdict::passed_over:
      context_.fence("rank " + std::to_string(leader) + " leads, and goes on without it");
      return;
    case succession::verdict::follow:
      for (int r = before; r < leader; ++r) context_.lose(r);
      context_.follow(leader);
  }
}

void node_state::look() {
  const auto time = now();
  const auto order = leader_.look(time, context_.stalled_for());
  if (order.fence) {
    const auto silence = std::chrono::duration_cast<std::chrono::milliseconds>(leader_.silence(time));
    context_.fence("no word of the leader for " + std::to_string(silence.count()) + " ms");
    return;
  }
  for (const auto rank : order.calls)
    mpi::send(self_, context_.node_of(rank), heir_call{context_.profile.rank});
  if (order.lead) lead();
}

void node_state::lead() {
  const auto rank = context_.profile.rank;
  succeeded what;
  what.silence = leader_.silence(now());
  what.epoch = std::max(epoch_, heard_epoch_);
  what.known = replica_.hand_over();
  for (int r = 0; r < static_cast<int>(context_.processes.size()); ++r)
    if (leader_.is_lost(r)) what.lost.insert(r);
  for (int r = 0; r < rank; ++r) context_.lose(r);
  context_.follow(rank);
  context_.lead(std::move(what));
}

// An order of a leader before the present one may come late.
epoch_ready node_state::begin(std::uint32_t epoch) {
  if (epoch < epoch_) return {context_.profile.rank};
  epoch_ = epoch;
  // Releases an executor that waits for a dead rank's activations, and makes it skip the steps it has left.
  context_.begin_epoch(epoch);
  context_.moves->begin_epoch(epoch);
  // The memory is needed for the new stage's weights and KV.
  mpi::send(self_, cache_, kv_need{epoch, {}});
  return {context_.profile.rank};
}

}  // namespace fastserve::actors
