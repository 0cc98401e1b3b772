#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fastserve::planner {

/// A model as the planner sees it: a chain of equal layers between an embedding and a head. Costs are in any
/// one unit of time a token (FLOPs serve when the ranks are equal).
struct model_cost {
  std::int32_t layers = 0;
  double embedding = 0;
  double layer = 1;
  double head = 0;
  std::size_t embedding_bytes = 0;
  std::size_t layer_bytes = 0;
  std::size_t head_bytes = 0;
  std::size_t kv_layer_bytes = 0;  ///< keys and values of the least useful KV pool, in one layer
};

/// What one rank offers.
struct rank_offer {
  int rank = 0;
  double speed = 1;              ///< relative; a stage's time is its cost / speed
  std::size_t memory_bytes = 0;  ///< for weights and KV
};

/// One stage: layers [first_layer, last_layer) on `rank`. The first stage embeds, the last holds the head.
struct stage_place {
  int rank = 0;
  std::int32_t first_layer = 0;
  std::int32_t last_layer = 0;
};

struct pipeline_plan {
  std::vector<stage_place> stages;  ///< in order of the layers
  std::vector<int> spares;          ///< ranks without layers
  double slowest = 0;               ///< time of the slowest stage
  std::string error;                ///< why there is no plan (then stages is empty)
};

/// Cuts the chain into contiguous stages over the ranks in the order given, each with at least one layer, as
/// many stages as there are ranks or layers. Minimises the slowest stage (exact dynamic programming, as in
/// PipeDream, SOSP '19, section 3.1), under the memory limits.
pipeline_plan partition(const model_cost& model, const std::vector<rank_offer>& ranks);

/// The plan after a loss: `ranks` are those left, `before` the stages that were. Where ranks without layers
/// can take the places of all that are gone, they do, and no other rank has to load anything; else the layers
/// are cut anew over all ranks left.
pipeline_plan plan_again(const model_cost& model, const std::vector<rank_offer>& ranks,
                         const std::vector<stage_place>& before);

}  // namespace fastserve::planner
