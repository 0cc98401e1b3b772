#pragma once

#include "kernels/cuda/attention.cuh"

// What the attention kernels of decode rows and of prompt chunks have in common: the 16 pairs of a warp,
// which are the rows of its matrix instructions, and the softmax that a warp carries for them.

namespace fastserve::kernels::cuda {

/// Of 16 pairs over `Dims` elements of the values, as mma leaves them in lanes: [h] is row lane / 4 + 8 h.
template <int Dims>
struct softmax_state {
  float sums[Dims / 8][4];
  float maximum[2];
  float total[2];
};

template <int Dims>
FASTSERVE_DEVICE void clear(softmax_state<Dims>& s) {
#pragma unroll
  for (int j = 0; j < Dims / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) s.sums[j][i] = 0.0F;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    s.maximum[h] = no_maximum;
    s.total[h] = 0.0F;
  }
}

template <int Dims>
FASTSERVE_DEVICE void merge(softmax_state<Dims>& into, const softmax_state<Dims>& from) {
  merge_factors by[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    by[h] = factors_of(into.maximum[h], from.maximum[h]);
    into.maximum[h] = by[h].best;
    into.total[h] = merged(into.total[h], from.total[h], by[h]);
  }
#pragma unroll
  for (int j = 0; j < Dims / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) into.sums[j][i] = merged(into.sums[j][i], from.sums[j][i], by[i / 2]);
}

/// A finished segment's state to those before it, if any; then it is that of the next segment.
template <int Dims>
FASTSERVE_DEVICE void close_segment(softmax_state<Dims>& whole, softmax_state<Dims>& state, bool& merging) {
  if (merging) {
    merge(whole, state);
  } else {
    whole = state;
  }
  merging = true;
  clear(state);
}

/// This lane's part of a chunk's denominator over 16 tokens, of which `low` and `high` weigh eight each.
FASTSERVE_DEVICE float lane_total(const float (&low)[4], const float (&high)[4], int h) {
  return ((low[2 * h] + low[2 * h + 1]) + high[2 * h]) + high[2 * h + 1];
}

class pair_tile {
 protected:
  FASTSERVE_DEVICE pair_tile(const attention_job& job, const attention_task& task, std::int64_t head,
                             int tile)
      : job_{job}, task_{task}, head_{head}, blocks_{job.blocks + task.blocks_at} {
    steps_ = (job.head_dim + 15) / 16;
    first_pair_ = task.first_pair + tile * warp_pairs;
    pairs_ = task.pairs - tile * warp_pairs;
    if (pairs_ > warp_pairs) pairs_ = warp_pairs;
    const int g = thread_index() % warp_lanes / 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      present_[h] = g + 8 * h < pairs_;
      const int pair = first_pair_ + g + 8 * h;
      if (present_[h]) sees_[h] = visible_from(task.first_position + pair / job.group, job.window);
    }
    all_ = range_of(job, task, task.first_pair, task.pairs);
  }

  FASTSERVE_DEVICE float exponent_scale() const { return job_.scale * log2_e; }

  /// Chunks of the task's segments of which any of its pairs sees something: [first, last).
  FASTSERVE_DEVICE void find_chunks(int& first, int& last) const {
    const int chunks = segment_tokens / chunk_tokens;
    first = all_.first / chunk_tokens;
    if (first < task_.segment_first * chunks) first = task_.segment_first * chunks;
    last = all_.last / chunk_tokens + 1;
    if (last > task_.segment_last * chunks) last = task_.segment_last * chunks;
  }

  /// The pairs' queries, as mma wants them. All loads come before the first use, so that their latencies are
  /// one.
  template <class T, int D>
  FASTSERVE_DEVICE void load_queries(std::uint32_t (&query)[D / 16][4]) const {
    const float* from[2] = {job_.query, job_.query};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int pair = first_pair_ + thread_index() % warp_lanes / 4 + 8 * h;
      if (present_[h]) from[h] += place_of(job_, task_, head_, pair, job_.query_stride);
    }
    two_floats all[D / 16][4];
    if (job_.head_dim % 2 == 0 && job_.query_stride % 2 == 0 &&
        reinterpret_cast<std::uintptr_t>(job_.query) % sizeof(two_floats) == 0) {
      load_twos<true, D>(all, from);
    } else {
      load_twos<false, D>(all, from);
    }
#pragma unroll
    for (int i = 0; i < D / 4; ++i)
      query[i / 4][i % 4] = pack2<T>(all[i / 4][i % 4].x[0], all[i / 4][i % 4].x[1]);
  }

  /// Elements [first_dim, first_dim + Dims) to the states; who has the first of them keeps the rest, too.
  template <int Dims>
  FASTSERVE_DEVICE void keep(const softmax_state<Dims>& s, int first_dim) const {
    const int lane = thread_index() % warp_lanes;
    const std::int64_t floats = state_floats(job_.head_dim);
    float* base =
        job_.states + ((task_.state * std::int64_t{job_.kv_heads} + head_) * warp_pairs + lane / 4) * floats;
#pragma unroll
    for (int j = 0; j < Dims / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int d = first_dim + 8 * j + 2 * (lane % 4) + i % 2;
        if (d < job_.head_dim && present_[i / 2]) base[i / 2 * 8 * floats + d] = s.sums[j][i];
      }
    }
    if (lane % 4 != 0 || first_dim != 0) return;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!present_[h]) continue;
      base[h * 8 * floats + job_.head_dim] = s.maximum[h];
      base[h * 8 * floats + job_.head_dim + 1] = s.total[h];
    }
  }

  template <int Dims>
  FASTSERVE_DEVICE void finish(const softmax_state<Dims>& s, int first_dim) const {
    const int lane = thread_index() % warp_lanes;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!present_[h]) continue;
      const int pair = first_pair_ + lane / 4 + 8 * h;
      const std::int64_t to = place_of(job_, task_, head_, pair, job_.out_stride);
      const float factor = 1.0F / s.total[h];
#pragma unroll
      for (int j = 0; j < Dims / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int d = first_dim + 8 * j + 2 * (lane % 4) + i;
          if (d < job_.head_dim)
            store_element(job_.out, job_.out_type, to + d, s.sums[j][2 * h + i] * factor);
        }
      }
    }
  }

 private:
  struct alignas(8) two_floats {
    float x[2];
  };
  /// What is not there is loaded from where something is: a branch for each load takes longer.
  template <bool Even, int D>
  FASTSERVE_DEVICE void load_twos(two_floats (&to)[D / 16][4], const float* const (&from)[2]) const {
#pragma unroll
    for (int i = 0; i < D / 4; ++i) {
      const int h = i % 2;
      const int d = 16 * (i / 4) + 2 * (thread_index() % 4) + i % 4 / 2 * 8;
      const bool there = present_[h] && d < job_.head_dim;
      const bool both = present_[h] && d + 1 < job_.head_dim;
      const float* at = from[h] + (there ? d : 0);
      two_floats x;
      if constexpr (Even) {
        x = *reinterpret_cast<const two_floats*>(at);
      } else {
        x = {at[0], at[both ? 1 : 0]};
      }
      to[i / 4][i % 4] = {there ? x.x[0] : 0.0F, both ? x.x[1] : 0.0F};
    }
  }

 protected:
  const attention_job& job_;
  const attention_task& task_;
  std::int64_t head_;
  const std::int32_t* blocks_;
  int steps_;  ///< of 16 elements of the head
  int first_pair_;
  int pairs_;
  bool present_[2];
  visible sees_[2];
  visible all_;  ///< by any pair of the task
};

}  // namespace fastserve::kernels::cuda
