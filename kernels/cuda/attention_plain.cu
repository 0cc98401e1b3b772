#include "kernels/cuda/attention.cuh"

// Merging of segments; attention in plain f32 arithmetic for f32 stores and heads beyond tensor cores'
// instantiations.

namespace fastserve::kernels::cuda {
namespace {

constexpr int merge_threads = 512;
constexpr int merged_at_once = 16;  ///< segments whose loads are in flight

/// A block to (merge, KV head); threads over the pairs' elements.
__global__ void __launch_bounds__(merge_threads) merge_segments(attention_job job) {
  wait_for_previous();
  const attention_merge merge = job.merges[block_x()];
  const std::int64_t floats = state_floats(job.head_dim);
  const std::int64_t step = std::int64_t{job.kv_heads} * warp_pairs * floats;  // to the next segment
  for (int i = thread_index(); i < merge.pairs.pairs * job.head_dim; i += merge_threads) {
    const int pair = i / job.head_dim;
    const int d = i % job.head_dim;
    const float* first =
        job.states +
        ((merge.pairs.state * std::int64_t{job.kv_heads} + block_y()) * warp_pairs + pair) * floats;
    float sum = first[d];
    float maximum = first[job.head_dim];
    float total = first[job.head_dim + 1];
    for (int s = 1; s < merge.segments; s += merged_at_once) {
      float sums[merged_at_once], maxima[merged_at_once], totals[merged_at_once];
#pragma unroll
      for (int j = 0; j < merged_at_once; ++j) {
        if (s + j >= merge.segments) continue;
        const float* from = first + (s + j) * step;
        sums[j] = from[d];
        maxima[j] = from[job.head_dim];
        totals[j] = from[job.head_dim + 1];
      }
#pragma unroll
      for (int j = 0; j < merged_at_once; ++j) {
        if (s + j >= merge.segments) continue;
        const auto by = factors_of(maximum, maxima[j]);
        maximum = by.best;
        total = merged(total, totals[j], by);
        sum = merged(sum, sums[j], by);
      }
    }
    const int at = merge.pairs.first_pair + pair;
    const std::int64_t to = (merge.pairs.row + at / job.group) * job.out_stride +
                            (block_y() * job.group + at % job.group) * job.head_dim;
    store_element(job.out, job.out_type, to + d, sum * (1.0F / total));
  }
}

FASTSERVE_DEVICE float stored(const char* half, dtype type, int dim, int token, int d) {
  const int at = token * dim + d;
  if (type != dtype::i8) return load_element(half, type, at);
  return static_cast<float>(reinterpret_cast<const signed char*>(half)[at]) *
         reinterpret_cast<const float*>(half + kv_block_tokens * dim)[token];
}

/// A warp to (row, head). Lanes are tokens while scores are computed, elements of the head while values are
/// added.
__global__ void __launch_bounds__(warp_lanes) attend_plain(attention_job job) {
  wait_for_previous();
  auto* weights = static_cast<float*>(shared_memory());
  constexpr int pieces = largest_head / warp_lanes;
  const std::int64_t row = block_x() / job.heads;
  const auto head = static_cast<int>(block_x() % job.heads);
  const int lane = thread_index();
  const int dim = job.head_dim;
  const visible sees = visible_from(job.positions[row], job.window);
  const std::int32_t* blocks = job.blocks + job.row_blocks_at[row];
  const float* query = job.query + row * job.query_stride + std::int64_t{head} * dim;
  const float scale = job.scale * log2_e;
  float sums[pieces] = {};
  float maximum = no_maximum;
  float total = 0;
  for (int chunk = sees.first / chunk_tokens; chunk <= sees.last / chunk_tokens; ++chunk) {
    float scores[2];
    float best = maximum;
    for (int i = 0; i < 2; ++i) {
      const int token = chunk * chunk_tokens + i * warp_lanes + lane;
      scores[i] = -INFINITY;
      if (token < sees.first || token > sees.last) continue;
      const char* key = token_of(job, blocks, head / job.group, token, false);
      float score = 0;
      for (int d = 0; d < dim; ++d)
        score = fma(query[d], stored(key, job.kv.type, dim, token % kv_block_tokens, d), score);
      scores[i] = score * scale;
      best = best > scores[i] ? best : scores[i];
    }
    for (int mask = 16; mask > 0; mask /= 2) {
      const float other = shuffle_xor(best, mask);
      best = best > other ? best : other;
    }
    sync_warp();  // the last chunk's weights have been read
    float sum = 0;
    for (int i = 0; i < 2; ++i) {
      const float weight = exp2_fast(scores[i] - best);
      weights[i * warp_lanes + lane] = weight;
      sum += weight;
    }
    const float factor = exp2_fast(maximum - best);
    maximum = best;
    total = fma(total, factor, warp_sum(sum));
    sync_warp();
#pragma unroll
    for (int i = 0; i < pieces; ++i) sums[i] *= factor;
    for (int i = 0; i < chunk_tokens; ++i) {
      const int token = chunk * chunk_tokens + i;
      if (token < sees.first || token > sees.last) continue;
      const char* value = token_of(job, blocks, head / job.group, token, true);
#pragma unroll
      for (int piece = 0; piece < pieces; ++piece) {
        const int d = piece * warp_lanes + lane;
        if (piece * warp_lanes >= dim) break;
        if (d < dim)
          sums[piece] =
              fma(weights[i], stored(value, job.kv.type, dim, token % kv_block_tokens, d), sums[piece]);
      }
    }
  }
  const float factor = 1.0F / total;
#pragma unroll
  for (int piece = 0; piece < pieces; ++piece) {
    const int d = piece * warp_lanes + lane;
    if (d < dim)
      store_element(job.out, job.out_type, row * job.out_stride + std::int64_t{head} * dim + d,
                    sums[piece] * factor);
  }
}

}  // namespace

void launch_attention_mma(const attention_job& job, std::int64_t tasks, bool narrow, cudaStream_t on) {
  if (job.kv.type == dtype::bf16) return launch_attention_bf16(job, tasks, narrow, on);
  if (job.kv.type == dtype::f16) return launch_attention_f16(job, tasks, narrow, on);
  launch_attention_i8(job, tasks, narrow, on);
}

void launch_attention_merge(const attention_job& job, std::int64_t merges, cudaStream_t on) {
  launch("attention, merging", merge_segments, {merges, job.kv_heads, merge_threads, 0, on, true}, job);
}

void launch_attention_plain(const attention_job& job, std::int64_t rows, cudaStream_t on) {
  launch("attention, plain", attend_plain,
         {rows * job.heads, 1, warp_lanes, chunk_tokens * sizeof(float), on, true}, job);
}

}  // namespace fastserve::kernels::cuda
