#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "scheduler/cost_model.hpp"
#include "scheduler/replica_set.hpp"

namespace fastserve::scheduler {

/// Pipelines that cost time and nothing else. All stages are alike. Copying a block takes what the limits of
/// the scheduler say (swap_limits): copies follow one another beside the steps, and a step waits for those
/// that its blocks need.
struct simulated_cluster {
  std::int32_t replicas = 1;  ///< pipelines; the router says which of them a request goes to
  step_costs stage;           ///< of each stage; draw_ns on the last one alone
  time link{};  ///< of each hop: scheduler to first stage, stage to stage, last stage to scheduler
};

/// A request and when it comes.
struct arrival {
  time at{};
  request what;
};

/// Who is told what happens in a simulation. Calls come in order of simulated time.
class simulation_sink {
 public:
  virtual ~simulation_sink() = default;
  virtual void on_token(request_id id, time at) = 0;
  virtual void on_done(const progress& end) = 0;
  virtual void on_refused(request_id id, const std::string& why) = 0;
};

struct simulation_result {
  time end{};          ///< of the last step
  counters totals;     ///< of the scheduler
  double busy = 0;     ///< part of the time in which a stage computed, mean over the stages
  double copying = 0;  ///< and in which it copied KV blocks, beside its steps
};

/// Runs the engine's own replica_set, unchanged, against the cluster: events alone, as fast as the
/// scheduler decides. `next` gives the requests in order of arrival, then nothing; one is asked for at a
/// time, so a long trace needs no memory. Ids must differ. Answers go on to max_tokens. Deterministic. Throws
/// std::logic_error if the scheduler loses a request or stands still.
simulation_result simulate(const limits& within, const simulated_cluster& cluster,
                           const std::function<std::optional<arrival>()>& next, simulation_sink& sink);

}  // namespace fastserve::scheduler
