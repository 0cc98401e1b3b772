#pragma once

#include <cstdint>
#include <functional>
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
  int replicas = 1;        ///< pipelines; 0: as many as are expected to do most
  int spare_ranks = 0;     ///< kept without layers
  bool hot_spares = true;  ///< they hold weights ready
  rank_speeds speeds;      ///< measured; empty: all ranks are equally fast
};

/// One line of the start-up table.
struct rank_row {
  node_profile profile;
  int pipeline = -1;             ///< -1: none
  std::uint32_t epoch = 0;       ///< the rank's
  std::int32_t first_layer = 0;  ///< == last_layer: a spare
  std::int32_t last_layer = 0;
  std::int32_t next_rank = -1;  ///< where its activations go; -1: nowhere
  std::uint64_t weight_bytes = 0;
  std::uint64_t step_bytes = 0;  ///< of weights that every step reads
  std::uint64_t kv_bytes = 0;
  std::int64_t load_ns = 0;
  std::uint64_t read_bytes = 0;    ///< of files, while loading
  std::uint64_t cached_bytes = 0;  ///< of these, of the pack cache
  double share = 0;                ///< of a step's time, as planned; any unit
  std::string channel;             ///< that carries activations to next_rank
};

/// An engine that is ready to serve, or the reason why there is none.
struct engine_layout {
  std::string error;           ///< one line for the user
  std::vector<rank_row> rows;  ///< of the ranks that live, in order
  std::vector<pipeline_layout> pipelines;
  std::string shape;         ///< why there are so many, where the engine chose
  scheduler::limits limits;  ///< of the first pipeline that stands

  /// Of all pipelines that stand.
  std::int32_t stages() const;
};

/// A pipeline that was put up anew.
struct rebuilt_pipeline {
  std::string error;
  std::vector<rank_row> rows;  ///< of the ranks that took part, or were in it before
  pipeline_layout pipeline;
};

/// Gets ranks to their places, at the start and after each loss: ends the epoch before, asks the nodes what
/// they are, plans the stages, has the layers loaded and the KV stores made. Ranks without layers are spares
/// for all pipelines.
class bring_up {
 public:
  /// The handles are in rank order; `leader` outlives the object.
  bring_up(caf::actor_system& sys, const rank_context& leader, std::vector<node_actor> nodes,
           std::vector<executor_actor> executors, std::vector<cache_actor> caches,
           const engine_wishes& wishes);

  /// Puts all pipelines up. Blocks until the ranks that are not in `gone` are ready; those in `emptied` live,
  /// but get no layers. Epochs come from `next_epoch`. A rank that dies meanwhile is an error as any other.
  /// May be called again as long as none of its layouts is in use.
  engine_layout begin(const std::function<std::uint32_t()>& next_epoch, const std::set<int>& gone,
                      const std::set<int>& emptied);
  /// Puts one pipeline up again, in `epoch`, from its ranks that are left and the spares. The others go on
  /// meanwhile. The `last` one that is left may use ranks that were to be emptied.
  rebuilt_pipeline rebuild(std::size_t pipeline, std::uint32_t epoch, const std::set<int>& gone,
                           const std::set<int>& emptied, bool last);
  /// The pipeline is no more: its ranks that are left become spares. Returns their rows.
  std::vector<rank_row> dissolve(std::size_t pipeline, std::uint32_t epoch, const std::set<int>& gone,
                                 const std::set<int>& emptied);
  /// Why rebuild() with these would find no plan; empty when it would. After begin().
  std::string objection(std::size_t pipeline, const std::set<int>& gone, const std::set<int>& emptied) const;

 private:
  template <class Answer, class Message, class Timeout>
  std::string ask(const std::vector<int>& ranks, const std::vector<Message>& messages, Timeout timeout,
                  std::vector<Answer>& answers);
  std::string ask_profiles(const std::vector<int>& living);
  std::vector<int> without(const std::set<int>& gone) const;
  std::vector<int> usable_for(std::size_t pipeline, const std::set<int>& idle) const;
  std::vector<planner::rank_offer> offers_of(const std::vector<int>& ranks) const;
  planner::model_cost cost_of(std::int32_t kv_tokens) const;
  std::size_t spares_of(const std::vector<int>& usable) const;
  std::vector<planner::pipeline_plan> plan_pipelines(const std::vector<int>& usable, std::size_t count) const;
  std::vector<planner::pipeline_plan> plan_all(const std::vector<int>& usable, std::string& why) const;
  std::vector<planner::pipeline_plan> plan_first(const std::vector<int>& usable, std::string& why) const;
  planner::pipeline_plan plan_again(std::size_t pipeline, const std::vector<int>& usable) const;
  std::vector<int> spares(const std::set<int>& idle) const;
  void add_stages(const std::vector<planner::stage_place>& stages, std::uint32_t epoch,
                  std::map<int, stage_assignment>& places) const;
  std::string link(const std::vector<planner::stage_place>& stages, std::map<int, stage_assignment>& places);
  void hold_ready(const std::vector<int>& spares, std::map<int, stage_assignment>& places) const;
  stage_assignment place_in(std::uint32_t epoch) const;
  int pipeline_of(int rank) const;
  std::string carry_out(const std::map<int, stage_assignment>& places,
                        std::map<int, pipeline_layout*> pipelines, std::vector<rank_row>& rows);
  std::string size_memory(pipeline_layout& pipeline, const std::vector<stage_ready>& ready) const;

  caf::actor_system& sys_;
  const rank_context& leader_;
  std::vector<node_actor> nodes_;
  std::vector<executor_actor> executors_;
  std::vector<cache_actor> caches_;
  engine_wishes wishes_;
  scheduler::limits limits_;
  std::map<int, node_profile> profiles_;
  std::vector<std::vector<planner::stage_place>> pipelines_;  // as they were last planned; empty: none
};

}  // namespace fastserve::actors
