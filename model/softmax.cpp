// Built without contraction to fused multiply-add (see CMakeLists.txt): bits must not depend on the
// processor.
#include "model/softmax.hpp"

#include <algorithm>
#include <bit>

namespace fastserve::model {

float fixed_exp(float x) {
  // e^x = 2^n e^r, |r| <= ln(2) / 2; ln(2) in two parts (Cody and Waite), n by adding and taking away 1.5 *
  // 2^23
  const float y = std::max(x, -88.0F);
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
  const float out = p * std::bit_cast<float>(exponent);
  return x < -87.0F ? 0.0F : out;
}

double softmax_weights(std::span<float> weights, std::span<double> sums, std::span<const float> scores,
                       float max, float temperature) {
  constexpr std::size_t lanes = 8;
  double total = 0.0;
  std::size_t block = 0;
  for (std::size_t begin = 0; begin < scores.size(); begin += softmax_block, ++block) {
    const auto count = std::min(softmax_block, scores.size() - begin);
    const float* in = scores.data() + begin;
    float* out = weights.data() + begin;
    for (std::size_t i = 0; i < count; ++i) out[i] = fixed_exp((in[i] - max) / temperature);
    // eight running sums, so that a vector unit of any width adds in the same order
    float sum[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes)
      for (std::size_t lane = 0; lane < lanes; ++lane) sum[lane] += out[i + lane];
    for (; i < count; ++i) sum[i % lanes] += out[i];
    const double part = (double{sum[0]} + sum[1]) + (double{sum[2]} + sum[3]) + (double{sum[4]} + sum[5]) +
                        (double{sum[6]} + sum[7]);
    sums[block] = part;
    total += part;
  }
  return total;
}

}  // namespace fastserve::model
