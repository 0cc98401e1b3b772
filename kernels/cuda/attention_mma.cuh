#pragma once

#include "kernels/cuda/attention_decode.cuh"

// Flash attention over pages on tensor cores for prompt chunks: four warps of 16 pairs each that share keys
// and values. These have one buffer each in shared memory: the next chunk's keys arrive while this one's
// values are used, and the other way round. attention_decode.cuh is for sequences of few rows and gives the
// same bits.

namespace fastserve::kernels::cuda {

/// T: operands of the mma, bf16 or f16. Bytes: the store is i8, widened to T on the way, its scales applied
/// in f32.
template <class T, bool Bytes, int D>
class attention_block : pair_tile {
 public:
  static constexpr int stride = D + 8;  // of a token in shared memory: eight rows of a matrix in eight banks

  FASTSERVE_DEVICE attention_block(const attention_job& job, const attention_task& task, std::int64_t head)
      : pair_tile{job, task, head, thread_index() / warp_lanes} {
    auto* memory = static_cast<std::uint16_t*>(shared_memory());
    keys_ = memory;
    values_ = memory + chunk_tokens * stride;
    scales_ = reinterpret_cast<float*>(memory + 2 * chunk_tokens * stride);
    mine_ = range_of(job, task, first_pair_, pairs_);
  }

  FASTSERVE_DEVICE void run() {
    const int chunks = segment_tokens / chunk_tokens;
    int first, last;
    find_chunks(first, last);

    softmax_state<D> state;
    softmax_state<D> whole;
    clear(state);
    clear(whole);
    if (first < last) {
      load_queries<T, D>(query_);
      if (job_.head_dim % 16 != 0) clear_margins();
      stage(false, first);
      copy_async_commit();
    }
    bool merging = false;
    for (int chunk = first; chunk < last; ++chunk) {
      stage(true, chunk);
      copy_async_commit();
      copy_async_wait<1>();
      sync_block();  // keys are there
      float scores[chunk_tokens / 8][4];
      const bool looks =
          pairs_ > 0 && mine_.first < (chunk + 1) * chunk_tokens && mine_.last >= chunk * chunk_tokens;
      if (looks) multiply_keys(scores);
      if (looks) weigh(state, scores, chunk);
      sync_block();  // all are done with the keys
      if (chunk + 1 < last) stage(false, chunk + 1);
      copy_async_commit();
      copy_async_wait<1>();
      sync_block();  // values are there
      if (looks) add_values(state, scores);
      sync_block();  // all are done with the values
      if ((chunk + 1) % chunks != 0 && chunk + 1 < last) continue;
      close_segment(whole, state, merging);
    }
    copy_async_wait<0>();
    if (pairs_ <= 0) return;
    if (task_.state >= 0) {
      keep(whole, 0);
    } else {
      finish(whole, 0);
    }
  }

 private:
  /// Columns of the last step beyond head_dim: nothing else writes them.
  FASTSERVE_DEVICE void clear_margins() {
    const int margin = 16 * steps_ - job_.head_dim;
    for (int i = thread_index(); i < 2 * chunk_tokens * margin; i += wide_warps * warp_lanes)
      keys_[i / margin * stride + job_.head_dim + i % margin] = 0;
  }

  /// A chunk's keys or values to shared memory; tokens that no pair of the block sees are zero and not read.
  FASTSERVE_DEVICE void stage(bool values, int chunk) {
    std::uint16_t* to = values ? values_ : keys_;
    const int dim = job_.head_dim;
    if constexpr (!Bytes) {
      if (dim % 8 == 0) {
        const int pieces = dim / 8;
        for (int i = thread_index(); i < chunk_tokens * pieces; i += wide_warps * warp_lanes) {
          const int token = chunk * chunk_tokens + i / pieces;
          const bool seen = token >= all_.first && token <= all_.last;
          const char* from = token_of(job_, blocks_, head_, seen ? token : all_.last, values) +
                             (token % kv_block_tokens * dim + i % pieces * 8) * 2;
          copy_async(to + i / pieces * stride + i % pieces * 8, from, seen);
        }
        return;
      }
    }
    for (int i = thread_index(); i < chunk_tokens * dim; i += wide_warps * warp_lanes) {
      const int token = chunk * chunk_tokens + i / dim;
      const bool seen = token >= all_.first && token <= all_.last;
      std::uint16_t x = 0;
      if (seen) {
        const char* from = token_of(job_, blocks_, head_, token, values);
        const int at = token % kv_block_tokens * dim + i % dim;
        if constexpr (Bytes) {
          x = rounded_to<T>(static_cast<float>(reinterpret_cast<const signed char*>(from)[at])).bits;
        } else {
          x = reinterpret_cast<const std::uint16_t*>(from)[at];
        }
      }
      to[i / dim * stride + i % dim] = x;
    }
    if constexpr (Bytes) {
      for (int i = thread_index(); i < chunk_tokens; i += wide_warps * warp_lanes) {
        const int token = chunk * chunk_tokens + i;
        const bool seen = token >= all_.first && token <= all_.last;
        scales_[(values ? chunk_tokens : 0) + i] =
            seen ? reinterpret_cast<const float*>(token_of(job_, blocks_, head_, token, values) +
                                                  kv_block_tokens * dim)[token % kv_block_tokens]
                 : 0.0F;
      }
    }
  }

  FASTSERVE_DEVICE void multiply_keys(float (&scores)[chunk_tokens / 8][4]) const {
    const int lane = thread_index() % warp_lanes;
    const int matrix = lane / 8;
#pragma unroll
    for (int j = 0; j < chunk_tokens / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[j][i] = 0.0F;
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      if (step >= steps_) break;
#pragma unroll
      for (int j = 0; j < chunk_tokens / 8; j += 2) {
        std::uint32_t b[4];  // tokens of j: low and high half of the step, then those of j + 1
        load_matrices<false>(
            b, keys_ + (8 * (j + matrix / 2) + lane % 8) * stride + 16 * step + 8 * (matrix % 2));
        mma<T>(scores[j], query_[step], b[0], b[1]);
        mma<T>(scores[j + 1], query_[step], b[2], b[3]);
      }
    }
  }

  /// Scores to weights; the state's sums and total to the new maximum.
  FASTSERVE_DEVICE void weigh(softmax_state<D>& s, float (&scores)[chunk_tokens / 8][4], int chunk) const {
    const int t = thread_index() % 4;
    const float scale = exponent_scale();
    float best[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < chunk_tokens / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 8 * j + 2 * t + i % 2;
        const int token = chunk * chunk_tokens + at;
        const bool seen = token >= sees_[i / 2].first && token <= sees_[i / 2].last;
        float x = scores[j][i];
        if constexpr (Bytes) x *= scales_[at];
        scores[j][i] = x = seen ? x : -INFINITY;
        best[i / 2] = fmaxf(best[i / 2], x);
      }
    }
    float factor[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      for (int mask = 1; mask < 4; mask *= 2) best[h] = fmaxf(best[h], shuffle_xor(best[h], mask));
      best[h] = fmaxf(s.maximum[h], best[h] * scale);
      factor[h] = exp2_fast(s.maximum[h] - best[h]);
      s.maximum[h] = best[h];
    }
#pragma unroll
    for (int j = 0; j < chunk_tokens / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[j][i] = weight_of(scores[j][i], scale, best[i / 2]);
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float total = lane_total(scores[0], scores[1], h);
#pragma unroll
      for (int j = 2; j < chunk_tokens / 8; j += 2) total += lane_total(scores[j], scores[j + 1], h);
      for (int mask = 1; mask < 4; mask *= 2) total += shuffle_xor(total, mask);
      s.total[h] = fma(s.total[h], factor[h], total);
    }
#pragma unroll
    for (int j = 0; j < D / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) s.sums[j][i] *= factor[i / 2];
  }

  FASTSERVE_DEVICE void add_values(softmax_state<D>& s, float (&weights)[chunk_tokens / 8][4]) const {
    const int lane = thread_index() % warp_lanes;
    const int matrix = lane / 8;
    if constexpr (Bytes) {
#pragma unroll
      for (int j = 0; j < chunk_tokens / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) weights[j][i] *= scales_[chunk_tokens + 8 * j + 2 * (lane % 4) + i % 2];
    }
#pragma unroll
    for (int step = 0; step < chunk_tokens / 16; ++step) {
      const auto& low = weights[2 * step];
      const auto& high = weights[2 * step + 1];
      const std::uint32_t a[4] = {pack2<T>(low[0], low[1]), pack2<T>(low[2], low[3]),
                                  pack2<T>(high[0], high[1]), pack2<T>(high[2], high[3])};
#pragma unroll
      for (int j = 0; j < D / 16; ++j) {
        if (j >= steps_) break;
        std::uint32_t b[4];  // columns 16 j to 16 j + 7: low and high half of the step, then the next eight
        load_matrices<true>(
            b, values_ + (16 * step + 8 * (matrix % 2) + lane % 8) * stride + 16 * j + 8 * (matrix / 2));
        mma<T>(s.sums[2 * j], a, b[0], b[1]);
        mma<T>(s.sums[2 * j + 1], a, b[2], b[3]);
      }
    }
  }

  std::uint16_t* keys_;
  std::uint16_t* values_;
  float* scales_;
  visible mine_;
  std::uint32_t query_[D / 16][4];
};

template <class T, bool Bytes, int D>
__global__ void __launch_bounds__(wide_warps* warp_lanes) attend(attention_job job) {
  wait_for_previous();
  const int blocks = (job.task_pairs + wide_pairs - 1) / wide_pairs;  // to a task
  attention_task task = job.tasks[block_x() / blocks];
  const int passed = static_cast<int>(block_x() % blocks) * wide_pairs;
  task.first_pair += passed;
  task.pairs = task.pairs - passed < wide_pairs ? task.pairs - passed : wide_pairs;
  if (task.pairs <= 0) return;
  attention_block<T, Bytes, D> block{job, task, block_y()};
  block.run();
}

template <class T, bool Bytes, int D>
void launch_attend(const attention_job& job, std::int64_t tasks, bool narrow, cudaStream_t on) {
  if (narrow) return launch_decode<T, Bytes, D>(job, tasks, on);
  const int blocks = (job.task_pairs + wide_pairs - 1) / wide_pairs;
  launch(
      "attention, many rows", attend<T, Bytes, D>,
      {tasks * blocks, job.kv_heads, wide_warps * warp_lanes, attention_shared_bytes(job.head_dim), on, true},
      job);
}

template <class T, bool Bytes>
void launch_attend_of(const attention_job& job, std::int64_t tasks, bool narrow, cudaStream_t on) {
  switch (padded_head(job.head_dim)) {
    case 64:
      return launch_attend<T, Bytes, 64>(job, tasks, narrow, on);
    case 128:
      return launch_attend<T, Bytes, 128>(job, tasks, narrow, on);
    default:
      return launch_attend<T, Bytes, 256>(job, tasks, narrow, on);
  }
}

}  // namespace fastserve::kernels::cuda
