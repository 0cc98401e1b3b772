#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/cost_model.hpp"
#include "scheduler/scheduler.hpp"

namespace fastserve::scheduler {

/// What a request asks of a pipeline.
struct request_size {
  std::int64_t text_tokens = 0;    ///< prompt, and the answer so far
  std::int64_t answer_tokens = 0;  ///< still to be drawn, at most, for all its choices together
  std::int64_t longest = 0;        ///< tokens of KV that its longest answer may come to
};

/// A pipeline, as a request sees it.
struct pipeline_offer {
  bool open = true;  ///< takes requests
  std::int64_t kv_tokens = 0;
  work_load load;
  std::int32_t cached_tokens = 0;  ///< of the request's text, in its prefix cache
};

/// Which of several pipelines of the same model a request goes to: the one that is expected to be the first
/// to be done with the request and all that it has to do already. What a pipeline has cached of a request's
/// text it need not compute, so the request goes there unless the pipeline is behind by more than that is
/// worth.
///
/// Work is measured in time: tokens, by the costs that all pipelines' steps together show, times the pace of
/// the pipeline, by how its own steps compare with these costs. Answers are taken to be as long, in
/// proportion to what was asked for, as those that have ended.
///
/// A plain object: the same calls give the same choices.
class router {
 public:
  /// `max_batch` and `token_budget` of the pipelines: what a step's fixed costs are shared by.
  router(std::size_t pipelines, std::int32_t max_batch, std::int32_t token_budget);

  /// What the steps of each pipeline have cost so far, in order; null where there is none.
  void learn(std::span<const cost_model* const> pipelines);
  /// An answer for which `asked` tokens were allowed has ended with `got`.
  void answered(std::int64_t asked, std::int64_t got);

  /// Among the open pipelines whose KV pool holds the longest answer, or else among the open ones with the
  /// largest pool; of equals the first. -1 when none is open. `offers` are in the order of learn().
  std::ptrdiff_t choose(const request_size& what, std::span<const pipeline_offer> offers) const;

  /// The time that the pipeline's steps take over the mean of all; 1 until it is known.
  double pace(std::size_t pipeline) const { return paces_[pipeline]; }

 private:
  std::vector<double> paces_;
  double max_batch_;
  double token_budget_;
  double prefill_cost_ = 1;  // of a token; any unit
  double decode_cost_ = 1;
  double asked_ = 0;  // sums that fade
  double got_ = 0;
};

}  // namespace fastserve::scheduler
