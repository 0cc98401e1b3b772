#pragma once

#include "actors/failover_options.hpp"
#include "actors/journal_replica.hpp"
#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"
#include "actors/stuck_watch.hpp"
#include "actors/succession.hpp"

namespace fastserve::actors {

/// The rank's face to the leader: answers what the rank is made of, hands orders to the rank's executor and
/// cache manager, sends heartbeats, keeps what a standby must know, and when the leader is silent for too
/// long takes its place, follows who does, or ends the rank. On a thread of its own, so that a busy rank is
/// not taken for a dead one.
class node_state {
 public:
  static constexpr const char* name = "node";

  node_state(mpi::base_of<node_actor>* self, rank_context& context, executor_actor executor,
             cache_actor cache);
  node_actor::behavior_type make_behavior();

 private:
  void on_tick();
  void hear(int leader);
  void look();
  void lead();
  epoch_ready begin(std::uint32_t epoch);
  bool exists(int rank) const { return rank >= 0 && rank < static_cast<int>(context_.processes.size()); }

  mpi::base_of<node_actor>* self_;
  rank_context& context_;
  executor_actor executor_;
  cache_actor cache_;
  succession leader_;
  stuck_watch mpi_;
  journal_replica replica_;
  stage_assignment place_;
  std::uint32_t epoch_ = 0;
  std::uint32_t heard_epoch_ = 0;
};

}  // namespace fastserve::actors
