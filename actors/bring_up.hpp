#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"
#include "actors/swap_room.hpp"
#include "scheduler/scheduler.hpp"

namespace fastserve::actors {

/// What the user wants of the engine. Zeros mean: choose.
struct engine_wishes {
  std::int32_t max_batch = 64;
  std::int32_t token_budget = 512;
  std::int64_t kv_tokens = 0;
  std::int32_t max_context = 0;
  scheduler::policy_options policy;
  bool prefix_caching = true;
  swap_wishes swap;
};

/// One line of the start-up table.
struct rank_row {
  node_profile profile;
  std::int32_t first_layer = 0;  ///< == last_layer: a spare
  std::int32_t last_layer = 0;
  std::int32_t next_rank = -1;  ///< where its activations go; -1: nowhere
  std::uint64_t weight_bytes = 0;
  std::uint64_t step_bytes = 0;  ///< of weights that every step reads
  std::uint64_t kv_bytes = 0;
  std::int64_t load_ns = 0;
};

/// An engine that is ready to serve, or the reason why there is none.
struct engine_layout {
  std::string error;                     ///< one line for the user
  std::vector<rank_row> rows;            ///< [ranks]
  std::vector<executor_actor> pipeline;  ///< in order of the layers
  scheduler::limits limits;
};

/// Gets every rank to its place: asks the nodes what they are, plans the stages, has the layers loaded and
/// the KV stores made. Blocks the caller, the leader's main thread. `nodes` and `executors` are in rank
/// order.
engine_layout bring_up(caf::actor_system& sys, const rank_context& leader,
                       const std::vector<node_actor>& nodes, const std::vector<executor_actor>& executors,
                       const engine_wishes& wishes, std::uint32_t epoch);

}  // namespace fastserve::actors
