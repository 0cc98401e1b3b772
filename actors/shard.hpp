#pragma once

#include <array>
#include <cstdint>
#include <deque>
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
  /// An id for a link between GPUs, or why there is none. May take as long as NCCL takes to begin.
  link_offer offer_link();

  /// Loads the assigned layers but for those that it has, and drops the others. An empty range makes this
  /// rank a spare, which may hold the weights of some layers ready.
  stage_ready load(const stage_assignment& place);
  /// The KV store that the loaded stage needs (blocks not set).
  kv_need need() const;
  void use(const kv_handle& kv);

  /// Computes a step and hands its activations on. The results, in the order of the steps, are the last
  /// stage's tokens, or the failure of any stage; nothing for a stage in the middle and for a step of another
  /// epoch. Those of a step that others follow (micro_batch::followed) may still be drawn on return: they
  /// come with a later call or by collect(), before those of the next.
  std::vector<step_result> run(const micro_batch& work);
  /// Whether results are still to come.
  bool waits() const { return !flying_.empty(); }
  /// Those that are there by now; with `wait` it waits for the oldest.
  std::vector<step_result> collect(bool wait = false);

  /// Counts since the last call.
  executor_stats take_stats();

 private:
  void forget_steps();
  void join_link(const stage_assignment& place);
  std::string channel_to_next() const;
  void load_weights(const stage_assignment& place, stage_ready& ready);
  // A step of the last stage whose result is still to come.
  struct flight {
    step_result result;  // its tokens are still to be filled in
    std::int32_t rows = 0;
    std::int64_t begun_ns = 0;             // less what it waited for activations and moves
    kernels::stream_mark* done = nullptr;  // of one that draws nothing
  };
  void fill_layout(const micro_batch& work);
  std::int32_t name_of(std::uint64_t request);
  bool compute(const micro_batch& work, flight& out);
  void tell_recording_failure();
  void begin_draw(const micro_batch& work, step_result& out);
  bool landed();
  step_result land();
  void count(std::int32_t rows, std::int64_t compute_ns);
  std::string failure(const std::exception& e) const;

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
  std::vector<std::uint64_t> drawn_for_;     // requests, by the last step
  std::size_t next_name_ = 0;                // where the next of them is likely to be
  std::deque<flight> flying_;                // oldest first
  std::array<std::unique_ptr<kernels::stream_mark>, kernels::most_draws_begun> marks_;  // of those
  std::size_t next_mark_ = 0;
  std::int64_t landed_ns_ = 0;  // when the last result was there
  bool told_recording_failure_ = false;
  executor_stats stats_;
  std::vector<std::int64_t> turnarounds_ns_;
};

}  // namespace fastserve::actors
