#pragma once

#include <vector>

#include "actors/protocol.hpp"
#include "actors/shard.hpp"

namespace fastserve::actors {

/// Runs the steps of its shard, on a thread of its own, in the order they come. A step blocks the thread
/// until the previous stage's activations are there; nothing else is served meanwhile, by design. Tokens that
/// another step need not wait for do not block it: it looks for them between messages.
class executor_state {
 public:
  static constexpr const char* name = "executor";

  executor_state(mpi::base_of<executor_actor>* self, rank_context& context, cache_actor cache);
  executor_actor::behavior_type make_behavior();

 private:
  void on_step(const micro_batch& work);
  void on_tick();
  void answer(std::vector<step_result> results);

  mpi::base_of<executor_actor>* self_;
  shard shard_;
  cache_actor cache_;
  scheduler_actor scheduler_;  // that sent the last step
  bool ticks_ = false;         // a tick is on its way
};

}  // namespace fastserve::actors
