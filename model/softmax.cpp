// Built without contraction to fused multiply-add (see CMakeLists.txt): bits must not depend on the
// processor.
#include "model/softmax.hpp"

#include <algorithm>
#include <array>

#include "kernels/token_weight.hpp"
#include "model/every_width.hpp"

namespace fastserve::model {
namespace {

/// weights[i] = weight(i), block by block. Returns the sum of all.
template <class Weight>
inline std::uint64_t fill(std::span<std::uint32_t> weights, std::span<std::uint64_t> sums, Weight weight) {
  std::uint64_t total = 0;
  for (std::size_t begin = 0, block = 0; begin < weights.size(); begin += softmax_block, ++block) {
    const auto end = std::min(begin + softmax_block, weights.size());
    for (auto i = begin; i < end; ++i) weights[i] = weight(i);
    std::uint64_t sum = 0;
    for (auto i = begin; i < end; ++i) sum += weights[i];
    sums[block] = sum;
    total += sum;
  }
  return total;
}

}  // namespace

FASTSERVE_EVERY_WIDTH std::uint64_t softmax_weights(std::span<std::uint32_t> weights,
                                                    std::span<std::uint64_t> sums,
                                                    std::span<const float> scores, float max,
                                                    float temperature) {
  return fill(weights, sums,
              [&](std::size_t i) { return kernels::token_weight(scores[i], max, temperature); });
}

kernels::token_cut find_cut(std::span<const float> scores, std::span<const std::uint32_t> weights,
                            std::uint64_t target) {
  // narrow the cut's score down 12, 10 and 10 bits of its rank at a time
  std::uint32_t known = 0;
  std::uint32_t mask = 0;
  for (const unsigned shift : {20U, 10U, 0U}) {
    std::array<std::uint64_t, 4096> sums{};
    const std::uint32_t digits = shift == 20U ? 4095U : 1023U;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const auto rank = kernels::score_rank(scores[i]);
      if ((rank & mask) == known) sums[rank >> shift & digits] += weights[i];
    }
    auto digit = digits;
    while (target >= sums[digit]) target -= sums[digit--];
    known |= digit << shift;
    mask |= digits << shift;
  }
  const float score = kernels::ranked_score(known);
  std::size_t i = 0;
  for (;; ++i) {
    if (scores[i] != score) continue;
    if (target < weights[i]) break;
    target -= weights[i];
  }
  return {score, static_cast<std::int32_t>(i)};
}

FASTSERVE_EVERY_WIDTH std::uint64_t cut_weights(std::span<std::uint32_t> weights,
                                                std::span<std::uint64_t> sums, std::span<const float> scores,
                                                kernels::token_cut cut, std::uint32_t least) {
  return fill(weights, sums, [&](std::size_t i) {
    const bool kept = cut.keeps(scores[i], static_cast<std::int32_t>(i)) & (weights[i] >= least);
    return kept ? weights[i] : 0U;
  });
}

}  // namespace fastserve::model
