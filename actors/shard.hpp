#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"
#include "model/stage.hpp"
#include "model/token_drawer.hpp"

namespace fastserve::actors {

/// What a shard executor does, without the actor: holds the stage of one epoch and computes its steps in the
/// order they come. Every call comes from one thread.
class shard {
 public:
  explicit shard(rank_context& context);

  /// Loads the assigned layers but for those that it has, and drops the others. An empty range makes this
  /// rank a spare, which may hold the weights of some layers ready.
  stage_ready load(const stage_assignment& place);
  /// The KV store that the loaded stage needs (blocks not set).
  kv_need need() const;
  void use(const kv_handle& kv);

  /// Computes a step and hands its activations on. The result is the last stage's tokens, or the failure of
  /// any stage; nothing for a stage in the middle and for a step of another epoch.
  std::optional<step_result> run(const micro_batch& work);

  /// Counts since the last call.
  executor_stats take_stats();

 private:
  void join_link(const stage_assignment& place);
  std::string channel_to_next() const;
  void load_weights(const stage_assignment& place, stage_ready& ready);
  void fill_layout(const micro_batch& work);
  void draw(const micro_batch& work, step_result& out);

  rank_context& context_;
  std::unique_ptr<kernels::stream> stream_;
  stage_assignment place_;
  std::unique_ptr<model::weight_source> source_;  // opened once: embeddings may read rows of it
  std::unique_ptr<model::stage> stage_;
  std::optional<model::stage_weights> held_;  // a spare's
  std::shared_ptr<kernels::kv_store> kv_;
  kernels::step_layout layout_;
  model::token_drawer drawer_;
  std::vector<model::draw_request> wanted_;  // of the step
  executor_stats stats_;
  std::vector<std::int64_t> turnarounds_ns_;
};

}  // namespace fastserve::actors
