#pragma once

#include <string>
#include <vector>

#include "launch/options.hpp"
#include "launch/serve_report.hpp"
#include "launch/workload.hpp"
#include "scheduler/simulation.hpp"

namespace fastserve::launch {

/// An engine as simulate needs it.
struct simulated_engine {
  scheduler::limits limits;
  scheduler::simulated_cluster cluster;
  double front_ms = 0;  ///< of a request's way to the scheduler and of a token's way back, together
};

/// Serves the load in the simulation. The report is that of a real run, times included that lie outside the
/// scheduler.
serve_report simulate_load(const simulated_engine& engine, const std::string& policy,
                           const std::vector<workload_item>& load, const load_options& how);

}  // namespace fastserve::launch
