#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fastserve::model {

/// e^x for x <= 0 with a relative error below 3e-7; 0 below -87. Sums and products of single precision in a
/// fixed order and no library call: the C library's exp differs between processors in the last bit, and a
/// drawn token must not.
float fixed_exp(float x);

/// Number of weights that share one partial sum.
inline constexpr std::size_t softmax_block = 256;

/// weights[i] = fixed_exp((scores[i] - max) / temperature), so that the largest is 1. `sums[b]` becomes the
/// sum of block b of softmax_block weights. Returns the sum of all. max is finite, temperature > 0; scores of
/// -inf weigh 0.
double softmax_weights(std::span<float> weights, std::span<double> sums, std::span<const float> scores,
                       float max, float temperature);

}  // namespace fastserve::model
