#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/options.hpp"
#include "launch/serve_report.hpp"
#include "launch/workload.hpp"

namespace fastserve::launch {

/// The requests that the options ask for, without times unless the trace's own are wanted. `max_context`
/// bounds prompt and answer; `cut` is told what it shortened.
std::vector<workload_item> load_of(const load_options& load, std::int32_t max_context,
                                   load_cut* cut = nullptr);

/// Without a trace: shortens the lengths that were not asked for to fit `max_context`. Returns what to say of
/// it. Throws std::runtime_error when what was asked for does not fit.
std::string fit_load(load_options& load, std::int32_t max_context);

/// Throws std::runtime_error for a load that serve_all() could not serve, or whose figures it could not save.
void check_load(load_options load, std::int32_t max_context);

/// Tokens that a prefix id of the load stands for.
std::int32_t prefix_block(const load_options& load);

/// What measures one run: a policy and the requests with their times.
using serve_once = std::function<serve_report(const std::string& policy, const std::vector<workload_item>&)>;

/// Runs every policy at every rate, printing each report, then writes the files that --save asks for. `facts`
/// stand at the head of the JSON; `finish` may add to it at the end.
void serve_all(const options& settings, std::int32_t max_context, nlohmann::ordered_json facts,
               const serve_once& once, const std::function<void(nlohmann::ordered_json&)>& finish);

/// Where a curve, points in order of x, first crosses `bound` upwards, between points by straight lines;
/// negative when it never does.
double crossing(const std::vector<std::pair<double, double>>& curve, double bound);

}  // namespace fastserve::launch
