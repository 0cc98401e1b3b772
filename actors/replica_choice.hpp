#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "actors/messages.hpp"
#include "actors/rank_context.hpp"
#include "actors/rank_speed.hpp"
#include "planner/cluster_plan.hpp"
#include "planner/partition.hpp"

namespace fastserve::actors {

/// How many pipelines the ranks form where nobody said it.
struct replica_choice {
  std::size_t pipelines = 1;
  std::string reason;  ///< a line for people
};

/// The layout, one plan a pipeline, of that many pipelines. One that cannot be has an error in one of them.
using layouts = std::function<std::vector<planner::pipeline_plan>(std::size_t pipelines)>;

/// The number, of those up to `ranks`, whose layout the planner expects to give most answer tokens a second
/// together, with as many sequences as the KV has room for, and no more than `kv_tokens` (0: any) of a
/// pipeline hold. Of numbers within half a
/// percent the largest, for the loss of a rank then stops the least. Beyond 64 not every number is looked at.
/// Speeds that are not known are taken for equal.
replica_choice choose_replicas(const rank_context& model, const std::map<int, node_profile>& profiles,
                               const rank_speeds& speeds, const std::vector<int>& ranks,
                               const planner::plan_wishes& wishes, double kv_tokens, const layouts& layout);

}  // namespace fastserve::actors
