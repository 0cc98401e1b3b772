#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/backend.hpp"

// Attention over the KV store, and what fills it. A "pair" is a query head of a row: the pairs of a KV head
// share the loads of its keys and values. Every pair's order of operations is fixed by its position alone:
//   - tokens go in chunks of 64, cut by absolute position; a chunk is one mma chain over head_dim, one
//     rescaling of the online softmax (arXiv 2205.14135, algorithm 1), one mma chain over its tokens. A score
//     s weighs 2^fma(s, scale log2 e, -maximum), the maximum being of products s (scale log2 e). A token that
//     the pair does not see weighs an exact zero; a chunk of which it sees nothing changes nothing;
//   - a chunk's denominator: four lanes share the pair's row. Of each 16 tokens q, lane t adds its weights
//     p_q = ((w[2t] + w[2t + 1]) + w[2t + 8]) + w[2t + 9]; its total is ((p_0 + p_1) + p_2) + p_3. The
//     lanes' totals are added in a tree, t ^ 1 first, then t ^ 2; the softmax's total becomes
//     fma(total, factor, that sum);
//   - chunks go in segments of 256 tokens, each an online softmax of its own; segments are merged in rising
//     order, by the block that computed them or, where several blocks did, by merge_segments.

namespace fastserve::kernels::cuda {

inline constexpr int chunk_tokens = 64;
inline constexpr int segment_tokens = 256;
inline constexpr int warp_pairs = 16;
inline constexpr int wide_warps = 4;
inline constexpr int wide_pairs = wide_warps * warp_pairs;
/// Largest head that goes through tensor cores; larger ones, and f32 stores, through plain arithmetic.
inline constexpr int largest_mma_head = 256;
inline constexpr int largest_head = 512;

/// Consecutive pairs of one sequence over segments [segment_first, segment_last). As it is made: nothing to
/// do.
struct attention_task {
  std::int32_t row = 0;         ///< of the sequence's first row in the step
  std::int32_t first_pair = 0;  ///< counted from there: row * group + head of the group
  std::int32_t pairs = 0;
  std::int32_t first_position = 0;  ///< of the sequence's first row
  std::int32_t blocks_at = 0;       ///< where the sequence's blocks begin in the table
  std::int32_t segment_first = 0;
  std::int32_t segment_last = 0;
  std::int32_t state =
      -1;  ///< where the segment's softmax goes, for merging; -1: the task finishes by itself
};

/// Segments [0, segments) of a task's pairs, whose states lie one after another.
struct attention_merge {
  attention_task pairs;
  std::int32_t segments = 0;
};

/// Layout of a KV store: [block][layer][kv head][keys, values], keys and values [16 tokens][head_dim], of i8
/// followed by the scales of the 16 tokens. A block over all layers is one piece.
struct kv_layout {
  char* layer = nullptr;  ///< block 0 of the layer
  std::int64_t block_bytes = 0;
  std::int64_t half_bytes = 0;  ///< keys, or values, of one head
  dtype type = dtype::f32;
  friend bool operator==(const kv_layout&, const kv_layout&) = default;
};

struct attention_job {
  const float* query;
  std::int64_t query_stride;
  void* out;
  std::int64_t out_stride;
  dtype out_type;
  kv_layout kv;
  const attention_task* tasks;
  std::int32_t task_pairs;  ///< most that a task has
  const attention_merge* merges;
  const std::int32_t* blocks;
  const std::int32_t* positions;      ///< [rows]
  const std::int32_t* row_blocks_at;  ///< [rows]
  float* states;                      ///< [state][kv head][16][state_floats]
  std::int32_t heads, kv_heads, group, head_dim, window;
  float scale;
};

/// The instantiation that a head goes through: 64, 128 or 256.
constexpr int padded_head(int head_dim) { return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256; }
/// Floats of a softmax in flight: weighted sums of values, maximum, denominator.
constexpr std::int64_t state_floats(int head_dim) { return head_dim + 2; }

/// Shared memory of the mma kernel for prompt chunks.
constexpr std::size_t attention_shared_bytes(int head_dim) {
  return std::size_t{2} * chunk_tokens * (static_cast<std::size_t>(padded_head(head_dim)) + 8) * 2 +
         2 * chunk_tokens * sizeof(float);
}

/// By the type of the store: bf16, f16 or i8. Narrow: tasks of up to warp_pairs, otherwise of up to
/// wide_warps times as many. The same pair gets the same bits either way.
void launch_attention_mma(const attention_job& job, std::int64_t tasks, bool narrow, cudaStream_t on);
void launch_attention_bf16(const attention_job& job, std::int64_t tasks, bool narrow, cudaStream_t on);
void launch_attention_f16(const attention_job& job, std::int64_t tasks, bool narrow, cudaStream_t on);
void launch_attention_i8(const attention_job& job, std::int64_t tasks, bool narrow, cudaStream_t on);
void launch_attention_merge(const attention_job& job, std::int64_t merges, cudaStream_t on);
void launch_attention_plain(const attention_job& job, std::int64_t rows, cudaStream_t on);

struct rotate_job {
  float* qkv;
  std::int64_t stride;
  const float* query_gain;  ///< null: no norm
  const float* key_gain;
  float query_epsilon, key_epsilon;
  const float* turns;  ///< [rows][cosines, sines][pairs]
  rope_kind kind;
  std::int32_t pairs;
  kv_layout kv;
  const std::int32_t* blocks;
  const std::int32_t* positions;
  const std::int32_t* row_blocks_at;
  std::int32_t heads, kv_heads, head_dim;
};

void launch_rotate_and_store(const rotate_job& job, std::int64_t rows, cudaStream_t on);
/// turns[r] = cosines and sines of positions[r] * inverse_frequency, times `magnitude`. The angle is rounded
/// to f32, its cosine computed in double, as on the host.
void launch_turns(float* turns, const std::int32_t* positions, const float* inverse_frequency,
                  std::int64_t rows, std::int32_t pairs, float magnitude, cudaStream_t on);

}  // namespace fastserve::kernels::cuda
