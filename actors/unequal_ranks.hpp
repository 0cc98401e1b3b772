#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "actors/messages.hpp"
#include "actors/rank_context.hpp"
#include "actors/rank_speed.hpp"
#include "planner/cluster_plan.hpp"
#include "planner/partition.hpp"

namespace fastserve::actors {

/// Of a prompt and of its answer, where plans are compared: nobody knows what will be asked.
inline constexpr double request_tokens = 128;

/// The model that a rank was told of, as the planner sees it.
planner::model_work work_of(const rank_context& model);

/// How fast each of `ranks` computes a layer, relative to the fastest (1). All 1 when a speed was not
/// measured or none differs by a tenth: an uneven cut for the noise of a measurement helps nobody.
std::map<int, double> relative_speeds(const rank_context& model, const std::map<int, node_profile>& profiles,
                                      const rank_speeds& speeds, const std::vector<int>& ranks);
bool are_unequal(const std::map<int, double>& relative);

struct unequal_wishes {
  double usable_memory = 1;
  std::int32_t max_batch = 64;
  std::int32_t token_budget = 256;
  std::int32_t kv_tokens = 0;  ///< that there must be room for
  int spares = 0;
};

/// One pipeline by the ranks' measured speeds. Ranks that would slow it have no layers and stand by as
/// spares.
planner::pipeline_plan plan_unequal(const rank_context& model, const std::map<int, node_profile>& profiles,
                                    const rank_speeds& speeds, const std::vector<int>& ranks,
                                    const unequal_wishes& wishes);

/// What a pipeline of these ranks is expected to do, all of whose speeds are known.
planner::prediction expected_of(const rank_context& model, const std::map<int, node_profile>& profiles,
                                const rank_speeds& speeds, const std::vector<planner::stage_place>& stages,
                                const planner::plan_wishes& wishes, double sequences);

}  // namespace fastserve::actors
