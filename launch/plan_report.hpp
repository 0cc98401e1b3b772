#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "planner/cluster_plan.hpp"

namespace fastserve::launch {

/// The plan as text: a row a rank, what is expected, and the reasons. Of many ranks the first are shown and
/// the rest counted.
std::string format_plan(const planner::cluster_plan& plan, const planner::cluster& on,
                        const planner::plan_wishes& wishes);

nlohmann::ordered_json plan_json(const planner::cluster_plan& plan, const planner::cluster& on);

/// The plan as a self-contained SVG document: a row a pipeline, a box a rank with its layers, its time and
/// its memory, links between them; spares and ranks left out below. Of many pipelines the first are drawn.
std::string draw_plan(const planner::cluster_plan& plan, const planner::cluster& on,
                      const std::string& title);

}  // namespace fastserve::launch
