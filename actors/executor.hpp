#pragma once

#include "actors/protocol.hpp"
#include "actors/shard.hpp"

namespace fastserve::actors {

/// Runs the steps of its shard, on a thread of its own, in the order they come. A step blocks the thread
/// until the previous stage's activations are there; nothing else is served meanwhile, by design.
class executor_state {
 public:
  static constexpr const char* name = "executor";

  executor_state(mpi::base_of<executor_actor>* self, rank_context& context, cache_actor cache);
  executor_actor::behavior_type make_behavior();

 private:
  mpi::base_of<executor_actor>* self_;
  shard shard_;
  cache_actor cache_;
};

}  // namespace fastserve::actors
