#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/draw.hpp"

namespace fastserve::model {

/// Number of weights that share one partial sum.
inline constexpr std::size_t softmax_block = 256;

/// weights[i] = kernels::token_weight() of score i, sums[b] = sum of block b of softmax_block weights. max is
/// the largest score, finite; temperature > 0. Returns the sum of all.
std::uint64_t softmax_weights(std::span<std::uint32_t> weights, std::span<std::uint64_t> sums,
                              std::span<const float> scores, float max, float temperature);

/// The first token, by falling score and then rising id, at which the running sum of weights exceeds
/// `target`, which is below the sum of all. In three passes, without sorting.
kernels::token_cut find_cut(std::span<const float> scores, std::span<const std::uint32_t> weights,
                            std::uint64_t target);

/// Weights that are below `least` or behind the cut become 0. Returns the sum of the others, sets `sums`.
std::uint64_t cut_weights(std::span<std::uint32_t> weights, std::span<std::uint64_t> sums,
                          std::span<const float> scores, kernels::token_cut cut, std::uint32_t least);

}  // namespace fastserve::model
