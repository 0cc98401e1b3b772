#pragma once

#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"

namespace fastserve::actors {

/// The rank's face to the leader: answers what the rank is made of, hands orders to the rank's executor and
/// cache manager, and leaves the job when told.
class node_state {
 public:
  static constexpr const char* name = "node";

  node_state(mpi::base_of<node_actor>* self, rank_context& context, executor_actor executor,
             cache_actor cache);
  node_actor::behavior_type make_behavior();

 private:
  mpi::base_of<node_actor>* self_;
  rank_context& context_;
  executor_actor executor_;
  cache_actor cache_;
};

}  // namespace fastserve::actors
