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

/// sums[b] = sum of block b of softmax_block weights; returns the sum of all.
double block_sums(std::span<double> sums, std::span<const float> weights);

/// weights[i] = fixed_exp((scores[i] - max) / temperature), so that the largest is 1, and their block_sums().
/// max is finite, temperature > 0; scores of -inf weigh 0. Returns the sum of all.
double softmax_weights(std::span<float> weights, std::span<double> sums, std::span<const float> scores,
                       float max, float temperature);

/// Where the heaviest weights, taken in order, first add up to a target: all above `bar` are needed, and of
/// those equal to it as many as make up `rest`.
struct weight_bar {
  float bar = 0.0F;
  double rest = 0.0;
};

/// Finds the bar in three passes, without sorting. weights >= 0, not all 0; target > 0.
weight_bar find_bar(std::span<const float> weights, double target);

}  // namespace fastserve::model
