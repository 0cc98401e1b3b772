#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "planner/cluster_plan.hpp"

// Why a plan is as it is. Internal to planner/.

namespace fastserve::planner {

struct plan_alternatives {
  double best = 0;                             ///< score of the plan, larger is better
  std::map<std::size_t, double> by_pipelines;  ///< the best score with so many pipelines
  /// The chain over some of the cluster's ranks (indices) and for so many sequences.
  std::function<chain_problem(const std::vector<std::size_t>& ranks, double sequences)> problem;
};

/// Fills in the plan's reasons.
void explain(const model_work& model, const cluster& on, const plan_wishes& wishes,
             const plan_alternatives& other, cluster_plan& plan);

/// Why the model fits in no way.
std::string no_room(const model_work& model, const cluster& on, const std::vector<std::size_t>& ranks,
                    const plan_wishes& wishes);

}  // namespace fastserve::planner
