#pragma once

#include "kernels/cuda/attention.cuh"

// Flash attention over pages on tensor cores: decode rows (one warp, a segment or more) and prompt chunks
// (four warps that share keys and values) by the same code. Keys and values of a chunk have one buffer each
// in shared memory: the next chunk's keys arrive while this one's values are used, and the other way round.

namespace fastserve::kernels::cuda {

template <int D>
struct softmax_state {
  float sums[D / 8][4];
  float maximum[2];
  float total[2];
};

template <int D>
FASTSERVE_DEVICE void clear(softmax_state<D>& s) {
#pragma unroll
  for (int j = 0; j < D / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) s.sums[j][i] = 0.0F;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    s.maximum[h] = no_maximum;
    s.total[h] = 0.0F;
  }
}

/// T: operands of the mma, bf16 or f16. Bytes: the store is i8, widened to T on the way, its scales applied
/// in f32.
template <class T, bool Bytes, int D, int Warps>
class attention_block {
 public:
  static constexpr int stride = D + 8;  // of a token in shared memory: eight rows of a matrix in eight banks

  FASTSERVE_DEVICE attention_block(const attention_job& job, const attention_task& task, std::int64_t head)
      : job_{job}, task_{task}, head_{head}, blocks_{job.blocks + task.blocks_at} {
    auto* memory = static_cast<std::uint16_t*>(shared_memory());
    keys_ = memory;
    values_ = memory + chunk_tokens * stride;
    scales_ = reinterpret_cast<float*>(memory + 2 * chunk_tokens * stride);
    steps_ = (job.head_dim + 15) / 16;
    const int warp = thread_index() / warp_lanes;
    first_pair_ = task.first_pair + warp * warp_pairs;
    pairs_ = task.pairs - warp * warp_pairs;
    if (pairs_ > warp_pairs) pairs_ = warp_pairs;
    const int g = thread_index() % warp_lanes / 4;
    for (int h = 0; h < 2; ++h) {
      present_[h] = g + 8 * h < pairs_;
      const int pair = first_pair_ + g + 8 * h;
      if (present_[h]) sees_[h] = visible_from(task.first_position + pair / job.group, job.window);
    }
    all_ = range_of(task.first_pair, task.pairs);
    mine_ = range_of(first_pair_, pairs_);
  }

  FASTSERVE_DEVICE void run() {
    const int chunks = segment_tokens / chunk_tokens;
    int first = all_.first / chunk_tokens;
    if (first < task_.segment_first * chunks) first = task_.segment_first * chunks;
    int last = all_.last / chunk_tokens + 1;
    if (last > task_.segment_last * chunks) last = task_.segment_last * chunks;

    softmax_state<D> state;
    softmax_state<D> whole;
    clear(state);
    clear(whole);
    if (first < last) {
      load_queries();
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
      if (merging) {
        merge(whole, state);
      } else {
        whole = state;
      }
      merging = true;
      clear(state);
    }
    copy_async_wait<0>();
    if (pairs_ <= 0) return;
    if (task_.state >= 0) {
      keep(whole);
    } else {
      finish(whole);
    }
  }

 private:
  FASTSERVE_DEVICE visible range_of(int first_pair, int pairs) const {
    if (pairs <= 0) return {};
    const int first = task_.first_position + first_pair / job_.group;
    const int last = task_.first_position + (first_pair + pairs - 1) / job_.group;
    return {visible_from(first, job_.window).first, last};
  }

  FASTSERVE_DEVICE void load_queries() {
    const int lane = thread_index() % warp_lanes;
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int h = r % 2;
        const int d = 16 * step + 2 * (lane % 4) + r / 2 * 8;
        float x[2] = {0, 0};
        if (present_[h]) {
          const int pair = first_pair_ + lane / 4 + 8 * h;
          const float* from = job_.query + (task_.row + pair / job_.group) * job_.query_stride +
                              (head_ * job_.group + pair % job_.group) * job_.head_dim;
          for (int i = 0; i < 2; ++i)
            if (d + i < job_.head_dim) x[i] = from[d + i];
        }
        query_[step][r] = pack2<T>(x[0], x[1]);
      }
    }
  }

  /// Columns of the last step beyond head_dim: nothing else writes them.
  FASTSERVE_DEVICE void clear_margins() {
    const int margin = 16 * steps_ - job_.head_dim;
    for (int i = thread_index(); i < 2 * chunk_tokens * margin; i += Warps * warp_lanes)
      keys_[i / margin * stride + job_.head_dim + i % margin] = 0;
  }

  /// A chunk's keys or values to shared memory; tokens that no pair of the block sees are zero and not read.
  FASTSERVE_DEVICE void stage(bool values, int chunk) {
    std::uint16_t* to = values ? values_ : keys_;
    const int dim = job_.head_dim;
    if constexpr (!Bytes) {
      if (dim % 8 == 0) {
        const int pieces = dim / 8;
        for (int i = thread_index(); i < chunk_tokens * pieces; i += Warps * warp_lanes) {
          const int token = chunk * chunk_tokens + i / pieces;
          const bool seen = token >= all_.first && token <= all_.last;
          const char* from = token_of(job_, blocks_, head_, seen ? token : all_.last, values) +
                             (token % kv_block_tokens * dim + i % pieces * 8) * 2;
          copy_async(to + i / pieces * stride + i % pieces * 8, from, seen);
        }
        return;
      }
    }
    for (int i = thread_index(); i < chunk_tokens * dim; i += Warps * warp_lanes) {
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
      for (int i = thread_index(); i < chunk_tokens; i += Warps * warp_lanes) {
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
    const float scale = job_.scale * log2_e;
    float best[2] = {s.maximum[0], s.maximum[1]};
#pragma unroll
    for (int j = 0; j < chunk_tokens / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 8 * j + 2 * t + i % 2;
        const int token = chunk * chunk_tokens + at;
        const bool seen = token >= sees_[i / 2].first && token <= sees_[i / 2].last;
        float x = scores[j][i] * scale;
        if constexpr (Bytes) x *= scales_[at];
        scores[j][i] = x = seen ? x : -INFINITY;
        best[i / 2] = best[i / 2] > x ? best[i / 2] : x;
      }
    }
    float factor[2];
    float total[2] = {0, 0};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      for (int mask = 1; mask < 4; mask *= 2) {
        const float other = shuffle_xor(best[h], mask);
        best[h] = best[h] > other ? best[h] : other;
      }
      factor[h] = exp2_fast(s.maximum[h] - best[h]);
      s.maximum[h] = best[h];
    }
#pragma unroll
    for (int q = 0; q < chunk_tokens / 16; ++q) {
      float part[2] = {0, 0};
#pragma unroll
      for (int j = 2 * q; j < 2 * q + 2; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float weight = exp2_fast(scores[j][i] - best[i / 2]);
          part[i / 2] += weight;
          scores[j][i] = weight;
        }
      }
      total[0] += part[0];
      total[1] += part[1];
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      for (int mask = 1; mask < 4; mask *= 2) total[h] += shuffle_xor(total[h], mask);
      s.total[h] = fma(s.total[h], factor[h], total[h]);
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

  FASTSERVE_DEVICE static void merge(softmax_state<D>& into, const softmax_state<D>& from) {
    merge_factors by[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      by[h] = factors_of(into.maximum[h], from.maximum[h]);
      into.maximum[h] = by[h].best;
      into.total[h] = merged(into.total[h], from.total[h], by[h]);
    }
#pragma unroll
    for (int j = 0; j < D / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) into.sums[j][i] = merged(into.sums[j][i], from.sums[j][i], by[i / 2]);
  }

  FASTSERVE_DEVICE void keep(const softmax_state<D>& s) const {
    const int lane = thread_index() % warp_lanes;
    const std::int64_t floats = state_floats(job_.head_dim);
    float* base =
        job_.states + ((task_.state * std::int64_t{job_.kv_heads} + head_) * warp_pairs + lane / 4) * floats;
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int d = 8 * j + 2 * (lane % 4) + i % 2;
        if (d < job_.head_dim && present_[i / 2]) base[i / 2 * 8 * floats + d] = s.sums[j][i];
      }
    }
    if (lane % 4 != 0) return;
    for (int h = 0; h < 2; ++h) {
      if (!present_[h]) continue;
      base[h * 8 * floats + job_.head_dim] = s.maximum[h];
      base[h * 8 * floats + job_.head_dim + 1] = s.total[h];
    }
  }

  FASTSERVE_DEVICE void finish(const softmax_state<D>& s) const {
    const int lane = thread_index() % warp_lanes;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!present_[h]) continue;
      const int pair = first_pair_ + lane / 4 + 8 * h;
      const std::int64_t to = (task_.row + pair / job_.group) * job_.out_stride +
                              (head_ * job_.group + pair % job_.group) * job_.head_dim;
      const float factor = 1.0F / s.total[h];
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int d = 8 * j + 2 * (lane % 4) + i;
          if (d < job_.head_dim)
            store_element(job_.out, job_.out_type, to + d, s.sums[j][2 * h + i] * factor);
        }
      }
    }
  }

  const attention_job& job_;
  const attention_task& task_;
  std::int64_t head_;
  const std::int32_t* blocks_;
  std::uint16_t* keys_;
  std::uint16_t* values_;
  float* scales_;
  int steps_;
  int first_pair_;
  int pairs_;
  bool present_[2];
  visible sees_[2];
  visible all_;
  visible mine_;
  std::uint32_t query_[D / 16][4];
};

template <class T, bool Bytes, int D, int Warps>
__global__ void __launch_bounds__(Warps* warp_lanes) attend(attention_job job) {
  constexpr int most = Warps * warp_pairs;
  const int blocks = (job.task_pairs + most - 1) / most;  // to a task
  attention_task task = job.tasks[block_x() / blocks];
  const int passed = static_cast<int>(block_x() % blocks) * most;
  task.first_pair += passed;
  task.pairs = task.pairs - passed < most ? task.pairs - passed : most;
  if (task.pairs <= 0) return;  // of a recorded step, which has room for more
  attention_block<T, Bytes, D, Warps> block{job, task, block_y()};
  block.run();
}

template <class T, bool Bytes, int D>
void launch_attend(const attention_job& job, std::int64_t tasks, int warps, cudaStream_t on) {
  const int most = warps * warp_pairs;
  const launch_shape shape{tasks * ((job.task_pairs + most - 1) / most), job.kv_heads, warps * warp_lanes,
                           attention_shared_bytes(job.head_dim), on};
  if (warps == 1) {
    launch("attention, few rows", attend<T, Bytes, D, 1>, shape, job);
  } else {
    launch("attention, many rows", attend<T, Bytes, D, wide_warps>, shape, job);
  }
}

template <class T, bool Bytes>
void launch_attend_of(const attention_job& job, std::int64_t tasks, int warps, cudaStream_t on) {
  switch (padded_head(job.head_dim)) {
    case 64:
      return launch_attend<T, Bytes, 64>(job, tasks, warps, on);
    case 128:
      return launch_attend<T, Bytes, 128>(job, tasks, warps, on);
    default:
      return launch_attend<T, Bytes, 256>(job, tasks, warps, on);
  }
}

}  // namespace fastserve::kernels::cuda
