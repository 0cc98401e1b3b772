#include "actors/executor.hpp"

#include <utility>

namespace fastserve::actors {

executor_state::executor_state(mpi::base_of<executor_actor>* self, rank_context& context, cache_actor cache)
    : self_{self}, shard_{context}, cache_{std::move(cache)} {}

executor_actor::behavior_type executor_state::make_behavior() {
  return {
      [this](const stage_assignment& place) {
        auto ready = shard_.load(place);
        if (ready.error.empty()) mpi::send(self_, cache_, shard_.need());
        return ready;
      },
      [this](const kv_handle& kv) { shard_.use(kv); },
      [this](const micro_batch& work) {
        if (auto result = shard_.run(work))
          mpi::send(self_, caf::actor_cast<scheduler_actor>(self_->current_sender()), std::move(*result));
      },
      [this](const executor_stats_request&) { return shard_.take_stats(); },
  };
}

}  // namespace fastserve::actors
