#include "actors/node.hpp"

#include <limits>
#include <utility>

namespace fastserve::actors {

node_state::node_state(mpi::base_of<node_actor>* self, rank_context& context, executor_actor executor,
                       cache_actor cache)
    : self_{self}, context_{context}, executor_{std::move(executor)}, cache_{std::move(cache)} {}

node_actor::behavior_type node_state::make_behavior() {
  return {
      [this](const profile_request&) { return context_.profile; },
      [this](const stage_assignment& place) { return mpi::delegate(self_, executor_, place); },
      [this](const kv_allotment& allotment) { return mpi::delegate(self_, cache_, allotment); },
      [this](const stop_rank& stop) {
        // An executor that waits for activations, or moves, is released by the end of its epoch.
        context_.channel->end_epoch(std::numeric_limits<std::uint32_t>::max());
        context_.moves->close();
        context_.leave(stop.exit_code);
      },
  };
}

}  // namespace fastserve::actors
