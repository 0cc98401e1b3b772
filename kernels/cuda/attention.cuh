#pragma once

#include <bit>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/mma.cuh"

namespace fastserve::kernels::cuda {

inline constexpr float no_maximum = -1e30F;

/// Positions that a pair sees: [first, last].
struct visible {
  int first = 0;
  int last = -1;
};
FASTSERVE_DEVICE visible visible_from(int position, int window) {
  return {window > 0 && position + 1 > window ? position + 1 - window : 0, position};
}

/// All of a task at once: a look at its pairs first would be a round trip to memory of its own.
FASTSERVE_DEVICE attention_task load_task(const attention_task* from) {
  struct {
    vec4 part[2];
  } words;
  static_assert(sizeof words == sizeof(attention_task));
  for (int i = 0; i < 2; ++i) words.part[i] = load_streaming(reinterpret_cast<const vec4*>(from) + i);
  return std::bit_cast<attention_task>(words);
}

/// What any of a task's pairs [first_pair, first_pair + pairs) sees.
FASTSERVE_DEVICE visible range_of(const attention_job& job, const attention_task& task, int first_pair,
                                  int pairs) {
  if (pairs <= 0) return {};
  const int first = task.first_position + first_pair / job.group;
  const int last = task.first_position + (first_pair + pairs - 1) / job.group;
  return {visible_from(first, job.window).first, last};
}

/// Where a pair's query, or result, begins in rows of `stride` elements.
FASTSERVE_DEVICE std::int64_t place_of(const attention_job& job, const attention_task& task,
                                       std::int64_t head, int pair, std::int64_t stride) {
  return (task.row + pair / job.group) * stride + (head * job.group + pair % job.group) * job.head_dim;
}

/// Of a score, by the maximum of such products.
FASTSERVE_DEVICE float weight_of(float score, float scale, float maximum) {
  return exp2_fast(fma(score, scale, -maximum));
}

/// into = into + from: two parts of one softmax over different tokens. An empty part changes nothing.
struct merge_factors {
  float best, old_factor, new_factor;
};
FASTSERVE_DEVICE merge_factors factors_of(float old_maximum, float new_maximum) {
  const float best = old_maximum > new_maximum ? old_maximum : new_maximum;
  return {best, exp2_fast(old_maximum - best), exp2_fast(new_maximum - best)};
}
FASTSERVE_DEVICE float merged(float into, float from, const merge_factors& by) {
  return fma(from, by.new_factor, into * by.old_factor);
}

FASTSERVE_DEVICE const char* token_of(const attention_job& job, const std::int32_t* blocks, std::int64_t head,
                                      int token, bool values) {
  return job.kv.layer + blocks[token / kv_block_tokens] * job.kv.block_bytes +
         (2 * head + (values ? 1 : 0)) * job.kv.half_bytes;
}

}  // namespace fastserve::kernels::cuda
