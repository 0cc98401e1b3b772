#include "actors/node.hpp"

#include <limits>
#include <stdexcept>
#include <utility>

namespace fastserve::actors {

namespace {

// For the leader's first word.
constexpr std::chrono::seconds grace{60};

liveness::time now() { return std::chrono::steady_clock::now().time_since_epoch(); }

}  // namespace

node_state::node_state(mpi::base_of<node_actor>* self, rank_context& context, executor_actor executor,
                       cache_actor cache, monitor_actor monitor)
    : self_{self},
      context_{context},
      executor_{std::move(executor)},
      cache_{std::move(cache)},
      monitor_{std::move(monitor)},
      leader_{1, context.failover.fence, grace, now()} {
  if (context.profile.rank == 0) leader_.forget(0);
}

node_actor::behavior_type node_state::make_behavior() {
  mpi::send(self_, node_actor{self_}, tick{});
  return {
      [this](const profile_request&) { return context_.profile; },
      [this](const link_request&) { return offer_link(); },
      [this](const stage_assignment& place) { return mpi::delegate(self_, executor_, place); },
      [this](const kv_allotment& allotment) { return mpi::delegate(self_, cache_, allotment); },
      [this](const leader_beat&) { leader_.heard(0, now()); },
      [this](const rank_lost& lost) {
        if (lost.rank != context_.profile.rank) context_.lose(lost.rank);
      },
      [this](const epoch_change& change) { return begin(change.epoch); },
      [this](const tick&) { on_tick(); },
      [this](const stop_rank& stop) {
        // An executor that waits for activations, or moves, is released by the end of its epoch.
        context_.channel->end_epoch(std::numeric_limits<std::uint32_t>::max());
        context_.moves->close();
        context_.leave(stop.exit_code);
      },
  };
}

void node_state::on_tick() {
  mpi::send_after(self_, context_.failover.heartbeat, node_actor{self_}, tick{});
  const auto time = now();
  if (!leader_.look(time, context_.stalled_for()).empty()) {
    const auto silence = std::chrono::duration_cast<std::chrono::milliseconds>(leader_.silence(0, time));
    context_.fence("no word of the leader for " + std::to_string(silence.count()) + " ms");
    return;
  }
  const auto& v = *context_.vitals;
  mpi::send(self_, monitor_, heartbeat{context_.profile.rank, epoch_, v.steps, v.rows, v.compute_ns});
}

link_offer node_state::offer_link() {
  link_offer offer;
  offer.rank = context_.profile.rank;
  try {
    if (context_.linked == nullptr) throw std::runtime_error("no device here can be linked");
    offer.id = context_.linked->make_id();
  } catch (const std::exception& e) {
    offer.error = e.what();
  }
  return offer;
}

epoch_ready node_state::begin(std::uint32_t epoch) {
  epoch_ = epoch;
  // Releases an executor that waits for a dead rank's activations, and makes it skip the steps it has left.
  context_.begin_epoch(epoch);
  context_.moves->begin_epoch(epoch);
  // The memory is needed for the new stage's weights and KV.
  mpi::send(self_, cache_, kv_need{epoch, {}});
  return {context_.profile.rank};
}

}  // namespace fastserve::actors
