#pragma once

// Online softmax (arXiv 2205.14135, algorithm 1) in chunks of chunk_tokens tokens. "Row" means one query head
// of one query token. Every row sees the same order of operations in any tile: chunks are cut by absolute
// position, tokens are added one by one, and a chunk in which a row sees nothing leaves its state as it was,
// bit for bit. Tokens no row of the tile may see are never read: their memory may hold anything.

#include "kernels/cpu/isa/attention_chunk.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

/// Rows [row, row + R) of the job, chunk by chunk or just one: the caller orders the chunks.
template <class E, int R>
FASTSERVE_INLINE void attend_tile(const attention_job& job, int chunk, int row) {
  visible_range seen;
  seen.low = job.token_last;
  seen.high = 0;
  for (int r = 0; r < R; ++r) {
    const int position = job.first_position + (row + r) / job.group;
    int first = job.window > 0 && position + 1 > job.window ? position + 1 - job.window : 0;
    int last = position + 1;
    if (first < job.token_first) first = job.token_first;
    if (last > job.token_last) last = job.token_last;
    seen.first[r] = first;
    seen.last[r] = last;
    if (first < last) {
      if (first < seen.low) seen.low = first;
      if (last > seen.high) seen.high = last;
    }
  }
  if (seen.low >= (chunk + 1) * chunk_tokens || seen.high <= chunk * chunk_tokens) return;
  add_chunk<E, R>(job, chunk, seen, job.scratch + static_cast<std::int64_t>(row) * job.head_dim,
                  job.states + static_cast<std::int64_t>(row) * state_floats(job.head_dim), row == 0);
}

/// Scaled queries of R rows, interleaved: [head_dim][R], or pairs of bf16.
template <class E, int R>
void load_queries(const attention_job& job, int row) {
  float* to = job.scratch + static_cast<std::int64_t>(row) * job.head_dim;
  for (int r = 0; r < R; ++r) {
    const float* from = job.query + (row + r) / job.group * job.query_stride +
                        static_cast<std::int64_t>((row + r) % job.group) * job.head_dim;
    if constexpr (in_pairs<E>) {
      load_query_pairs<R>(to + r, from, job.scale, job.head_dim);
    } else {
      for (int d = 0; d < job.head_dim; ++d) to[d * R + r] = from[d] * job.scale;
    }
  }
}

/// Calls the tiles of rows [row, rows): as many of R as fit, then of halves.
template <int R, class Tile>
FASTSERVE_INLINE void for_halves(int row, int rows, Tile tile) {
  for (; row + R <= rows; row += R) tile.template operator()<R>(row);
  if constexpr (R > 1) {
    if (row < rows) for_halves<R / 2>(row, rows, tile);
  }
}

/// Calls each tile of the job's rows: as many of query_rows as fit, then smaller ones. Twice rest_rows are
/// not cut into a large and two small ones.
template <class Tile>
FASTSERVE_INLINE void for_tiles(int rows, Tile tile) {
  int row = 0;
  if constexpr (query_rows > rest_rows) {
    for (; row + query_rows <= rows && rows - row != 2 * rest_rows; row += query_rows)
      tile.template operator()<query_rows>(row);
  }
  for_halves<rest_rows>(row, rows, tile);
}

template <class E>
struct load_tile {
  const attention_job& job;
  template <int R>
  FASTSERVE_INLINE void operator()(int row) const {
    load_queries<E, R>(job, row);
  }
};

template <class E>
struct chunk_tile {
  const attention_job& job;
  int chunk;
  template <int R>
  FASTSERVE_INLINE void operator()(int row) const {
    attend_tile<E, R>(job, chunk, row);
  }
};

void clear_states(float* states, int count, int head_dim) {
  const int stride = state_floats(head_dim);
  const int width = padded_dim(head_dim);
  for (int i = 0; i < count; ++i, states += stride) {
    for (int d = 0; d < stride; d += lanes) store(states + d, zero());
    states[width] = no_maximum;
  }
}

template <class E>
void attention(const attention_job& job) {
  const int rows = job.rows * job.group;
  clear_states(job.states, rows, job.head_dim);
  for_tiles(rows, load_tile<E>{job});
  const int last_position = job.first_position + job.rows - 1;
  int first = job.window > 0 && job.first_position + 1 > job.window ? job.first_position + 1 - job.window : 0;
  if (first < job.token_first) first = job.token_first;
  const int end = last_position + 1 < job.token_last ? last_position + 1 : job.token_last;
  for (int chunk = first / chunk_tokens; chunk * chunk_tokens < end; ++chunk) {
    for_tiles(rows, chunk_tile<E>{job, chunk});
  }
}

/// into = into + from, two parts of one softmax over different tokens. A part without tokens changes nothing.
void merge_states(float* into, const float* from, int count, int head_dim) {
  const int width = padded_dim(head_dim);
  const int stride = state_floats(head_dim);
  for (int i = 0; i < count; ++i, into += stride, from += stride) {
    const float best = into[width] > from[width] ? into[width] : from[width];
    const f32v old_factor = exp(set1(into[width] - best));
    const f32v new_factor = exp(set1(from[width] - best));
    for (int d = 0; d < width; d += lanes) {
      store(into + d, fma(load(from + d), new_factor, load(into + d) * old_factor));
    }
    into[width] = best;
    into[width + 1] = from[width + 1] * new_factor[0] + into[width + 1] * old_factor[0];
  }
}

template <class To>
void finish_state(void* out, const float* state, int head_dim) {
  const f32v factor = set1(1.0F / state[padded_dim(head_dim) + 1]);
  auto* to = static_cast<To*>(out);
  for (int d = 0; d < head_dim; d += lanes) {
    const int n = head_dim - d < lanes ? head_dim - d : lanes;
    store_n(to + d, load(state + d) * factor, n);
  }
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
