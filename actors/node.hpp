#pragma once

#include "actors/failover_options.hpp"
#include "actors/liveness.hpp"
#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"

namespace fastserve::actors {

/// The rank's face to the leader: answers what the rank is made of, hands orders to the rank's executor and
/// cache manager, sends heartbeats, ends the rank when told or when the leader is silent for too long. On a
/// thread of its own, so that a busy rank is not taken for a dead one.
class node_state {
 public:
  static constexpr const char* name = "node";

  node_state(mpi::base_of<node_actor>* self, rank_context& context, executor_actor executor,
             cache_actor cache, monitor_actor monitor);
  node_actor::behavior_type make_behavior();

 private:
  void on_tick();
  epoch_ready begin(std::uint32_t epoch);
  link_offer offer_link();

  mpi::base_of<node_actor>* self_;
  rank_context& context_;
  executor_actor executor_;
  cache_actor cache_;
  monitor_actor monitor_;
  liveness leader_;
  std::uint32_t epoch_ = 0;
};

}  // namespace fastserve::actors
