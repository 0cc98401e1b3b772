#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "model/architecture.hpp"
#include "model/weight_source.hpp"

namespace fastserve::compress {

/// A model to be judged.
struct judged_model {
  const model::architecture& arch;
  model::weight_source& source;
  kernels::dtype kv = kernels::dtype::f32;  ///< its keys and values are stored so, i8 with their scales
};

/// How a model predicts a text, and how far another one is from it.
struct text_score {
  std::int64_t tokens = 0;      ///< predicted
  double perplexity = 0;        ///< exp of the mean negative log-likelihood
  double other_perplexity = 0;  ///< of the other model
  double divergence = 0;        ///< mean KL(model || other) over the vocabulary, in nats
  double agreement = 0;         ///< share of tokens where both find the same one likeliest
};

/// Runs both models over the same sequences, each predicted from its own beginning, with f32
/// arithmetic where their weights are numbers. Sequences of 2 to max_positions tokens.
text_score compare_on_text(const judged_model& model, const judged_model& other,
                           const std::vector<std::vector<std::int32_t>>& sequences, kernels::backend& on,
                           const std::function<void(std::int64_t done, std::int64_t total)>& progress);

/// Cuts a text's tokens into at most `most` sequences of `length`, evenly spread over it; each begins with
/// `bos` unless that is negative. What is left over at the end is dropped, a text shorter than `length` is
/// one sequence.
std::vector<std::vector<std::int32_t>> cut_sequences(std::span<const std::int32_t> tokens,
                                                     std::int32_t length, std::int32_t most,
                                                     std::int32_t bos);

}  // namespace fastserve::compress
