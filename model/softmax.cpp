// Built without contraction to fused multiply-add (see CMakeLists.txt): bits must not depend on the
// processor.
#include "model/softmax.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace fastserve::model {

float fixed_exp(float x) {
  // e^x = 2^n e^r, |r| <= ln(2) / 2; ln(2) in two parts (Cody and Waite), n by adding and taking away 1.5 *
  // 2^23. No branches: loops over it become vector code.
  const float y = x < -88.0F ? -88.0F : x;
  const float magic = 12582912.0F;
  const float n = (y * 1.44269504F + magic) - magic;
  const float r = (y - n * 0.693359375F) + n * 2.12194440e-4F;
  // Taylor to the 7th power: 1.2e-8 at the ends
  float p = 1.0F / 5040.0F;
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const auto exponent = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127) << 23U;
  const float scaled = p * std::bit_cast<float>(exponent);
  const std::uint32_t keep = x < -87.0F ? 0U : ~0U;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) & keep);
}

namespace {

double block_sum(std::span<const float> weights) {
  // eight running sums, so that a vector unit of any width adds in the same order
  constexpr std::size_t lanes = 8;
  float sum[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= weights.size(); i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) sum[lane] += weights[i + lane];
  for (; i < weights.size(); ++i) sum[i % lanes] += weights[i];
  return (double{sum[0]} + sum[1]) + (double{sum[2]} + sum[3]) + (double{sum[4]} + sum[5]) +
         (double{sum[6]} + sum[7]);
}

}  // namespace

double block_sums(std::span<double> sums, std::span<const float> weights) {
  double total = 0.0;
  for (std::size_t begin = 0, block = 0; begin < weights.size(); begin += softmax_block, ++block) {
    sums[block] = block_sum(weights.subspan(begin, std::min(softmax_block, weights.size() - begin)));
    total += sums[block];
  }
  return total;
}

double softmax_weights(std::span<float> weights, std::span<double> sums, std::span<const float> scores,
                       float max, float temperature) {
  const float* in = scores.data();
  float* out = weights.data();
  for (std::size_t i = 0; i < scores.size(); ++i) out[i] = fixed_exp((in[i] - max) / temperature);
  return block_sums(sums, weights);
}

weight_bar find_bar(std::span<const float> weights, double target) {
  // Weights are not negative, so they order as their bits do: narrow the bar down 12, 10 and 10 bits at a
  // time.
  std::uint32_t known = 0;
  std::uint32_t mask = 0;
  double above = 0.0;
  for (const unsigned shift : {20U, 10U, 0U}) {
    std::array<double, 4096> sums{};
    std::array<bool, 4096> seen{};
    const std::uint32_t digits = shift == 20U ? 4095U : 1023U;
    for (const float w : weights) {
      const auto bits = std::bit_cast<std::uint32_t>(w);
      if ((bits & mask) != known) continue;
      const auto digit = bits >> shift & digits;
      sums[digit] += w;
      seen[digit] = true;
    }
    // down to the bucket in which the target lies; the last one there is when rounding puts it below all
    std::uint32_t chosen = 0;
    for (std::uint32_t digit = digits + 1, any = 0; digit-- > 0;) {
      if (!seen[digit]) continue;
      if (any != 0) above += sums[chosen];
      any = 1;
      chosen = digit;
      if (above + sums[digit] >= target) break;
    }
    known |= chosen << shift;
    mask |= digits << shift;
  }
  return {std::bit_cast<float>(known), target - above};
}

}  // namespace fastserve::model
