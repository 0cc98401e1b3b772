#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"
#include "actors/rank_speed.hpp"
#include "actors/swap_room.hpp"
#include "planner/partition.hpp"
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
  int spare_ranks = 0;     ///< kept without layers
  bool hot_spares = true;  ///< they hold weights ready
  rank_speeds speeds;      ///< measured; empty: all ranks are equally fast
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
  double share = 0;     ///< of a step's time, as planned; any unit
  std::string channel;  ///< that carries activations to next_rank
};

/// An engine that is ready to serve, or the reason why there is none.
struct engine_layout {
  std::string error;  ///< one line for the user
  std::uint32_t epoch = 0;
  std::vector<rank_row> rows;            ///< of the ranks that live
  std::vector<executor_actor> pipeline;  ///< in order of the layers
  std::vector<cache_actor> caches;       ///< the same
  std::vector<int> stage_ranks;          ///< the same as rank numbers
  scheduler::limits limits;
};

/// Gets ranks to their places, at the start and after each loss: ends the epoch before, asks the nodes what
/// they are, plans the stages, has the layers loaded and the KV stores made.
class bring_up {
 public:
  /// The handles are in rank order; `leader` outlives the object.
  bring_up(caf::actor_system& sys, const rank_context& leader, std::vector<node_actor> nodes,
           std::vector<executor_actor> executors, std::vector<cache_actor> caches,
           const engine_wishes& wishes);

  /// Blocks until the ranks that are not in `gone` are ready in `epoch`; those in `emptied` live, but get no
  /// layers. A rank that dies meanwhile is an error as any other.
  engine_layout run(std::uint32_t epoch, const std::set<int>& gone, const std::set<int>& emptied);
  /// Why run() with these would find no plan; empty when it would. After a run.
  std::string objection(const std::set<int>& gone, const std::set<int>& emptied) const;

 private:
  template <class Answer, class Message, class Timeout>
  std::string ask(const std::vector<int>& ranks, const std::vector<Message>& messages, Timeout timeout,
                  std::vector<Answer>& answers);
  std::string ask_profiles(const std::vector<int>& living, std::uint32_t epoch);
  std::vector<int> without(const std::set<int>& gone) const;
  planner::pipeline_plan plan(const std::vector<int>& usable) const;
  std::vector<stage_assignment> places_of(const planner::pipeline_plan& plan, std::uint32_t epoch) const;
  std::string link(const planner::pipeline_plan& plan, std::vector<stage_assignment>& places);
  void hold_ready(const planner::pipeline_plan& plan, std::vector<stage_assignment>& places) const;

  caf::actor_system& sys_;
  const rank_context& leader_;
  std::vector<node_actor> nodes_;
  std::vector<executor_actor> executors_;
  std::vector<cache_actor> caches_;
  engine_wishes wishes_;
  scheduler::limits limits_;
  std::map<int, node_profile> profiles_;
  std::vector<planner::stage_place> stages_;  // of the last epoch that was planned
};

}  // namespace fastserve::actors
