#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/sampling.hpp"

namespace fastserve::model {

/// A token and its score.
struct candidate {
  float score = 0.0F;
  std::int32_t token = 0;
};

/// Memory of sample(), kept between calls so that the steady state allocates nothing. One a thread; carries
/// nothing from one call to the next that a result could depend on.
struct sampler_scratch {
  std::vector<float> scores;
  std::vector<std::uint32_t> weights;
  std::vector<std::uint64_t> sums;
  std::vector<candidate> candidates;  ///< what top-k leaves
  std::vector<std::int32_t> counts;   ///< of each token in the answer; all zero between calls
  std::vector<std::int32_t> touched;  ///< tokens seen in prompt or answer
};

/// Draws the next token. A pure function of its arguments, the same on every machine: randomness is Philox
/// keyed by the seed and counted by `position`, the place in the sequence that the token will take.
///
/// Order, as in Hugging Face generation and vLLM: repetition penalty, then frequency and presence penalties,
/// temperature, top-k, top-p over what is left, min-p. Equal scores rank by token id, lower first, so top-k
/// keeps exactly k and greedy takes the lowest id of the maxima. The vocabulary is never sorted as a whole.
///
/// logits: [vocab] of the raw distribution, not changed; -inf is an impossible token. `prompt` and `answer`
/// feed the penalties; ids outside the vocabulary are ignored. `params` must be valid
/// (sampling_params::validate). Logits with NaN or +inf or nothing finite give `valid == false` and the
/// lowest id of the finite maxima, or 0.
sampled_token sample(std::span<const float> logits, const sampling_params& params, std::uint64_t position,
                     std::span<const std::int32_t> prompt, std::span<const std::int32_t> answer,
                     sampler_scratch& scratch);

/// The `k` largest scores into `out`, largest first, equals by index; fewer when there are fewer.
void select_top(std::span<const float> scores, std::size_t k, std::vector<candidate>& out);

}  // namespace fastserve::model
