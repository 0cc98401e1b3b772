#pragma once

// One chunk of online softmax for the rows of one tile: scores, weights, values. attention.hpp tells the
// whole.

#include "kernels/cpu/isa/attention_pairs.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

constexpr float no_maximum = -1e30F;
constexpr int block_vectors = block_tokens / lanes;  // score vectors of a block
constexpr int blocks_at_once = lanes == block_tokens ? 2 : 1;
constexpr int chunk_blocks = chunk_tokens / block_tokens;
/// Rows of the tiles after those of query_rows: the largest power of two.
constexpr int rest_rows = query_rows >= 8 ? 8 : query_rows >= 4 ? 4 : query_rows >= 2 ? 2 : 1;

/// What the rows of one tile see: tokens [first[r], last[r]), all inside [low, high).
struct visible_range {
  int first[query_rows];
  int last[query_rows];
  int low;
  int high;
};

FASTSERVE_INLINE std::int64_t block_offset(const attention_job& job, int index) {
  return job.blocks[index] * job.block_bytes;
}

/// The same for the block one chunk later, which the chunk's first tile fetches; for the other tiles and past
/// token `high` for this one: asking for what is there costs less than a branch.
FASTSERVE_INLINE std::int64_t later_offset(const attention_job& job, int index, int high, bool fetches) {
  const bool later = fetches && (index + chunk_blocks) * block_tokens < high;
  return block_offset(job, later ? index + chunk_blocks : index);
}

/// Scores of B blocks that follow one another: scores[r][16 * B]. query: [head_dim][R]. Meanwhile fetches the
/// keys at `ahead`.
template <class E, int R, int B>
FASTSERVE_INLINE void score_blocks(float* scores, const float* query, const E* const* keys,
                                   const E* const* ahead, int head_dim) {
  constexpr int vectors = B * block_vectors;
  f32v acc[R][vectors];
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    FASTSERVE_UNROLL(8)
    for (int v = 0; v < vectors; ++v) acc[r][v] = zero();
  }
  const auto multiply = [&](const f32v(&key)[vectors], const float* by) {
    FASTSERVE_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      const f32v q = set1(by[r]);
      FASTSERVE_UNROLL(8)
      for (int v = 0; v < vectors; ++v) acc[r][v] = multiply_kv<E>(q, key[v], acc[r][v]);
    }
  };
  const int whole = head_dim / at_once<E>;
  for (int d = 0; d < whole; ++d) {
    f32v key[vectors];
    FASTSERVE_UNROLL(2)
    for (int b = 0; b < B; ++b) {
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < block_vectors; ++v) {
        key[b * block_vectors + v] = load_kv(keys[b] + (d * block_tokens + v * lanes) * at_once<E>);
      }
      fetch_kv(ahead[b] + d * block_tokens * at_once<E>);
    }
    multiply(key, query + d * R);
  }
  if constexpr (in_pairs<E>) {
    if (head_dim % pair != 0) {
      f32v key[vectors];
      FASTSERVE_UNROLL(2)
      for (int b = 0; b < B; ++b) key[b] = with_zeros(keys[b] + whole * block_tokens * pair);
      multiply(key, query + whole * R);
    }
  }
  if constexpr (scaled<E>) {
    for (int b = 0; b < B; ++b) {
      const float* scales = scales_of<E>(keys[b], head_dim);
      for (int v = 0; v < block_vectors; ++v) {
        const f32v scale = load(scales + v * lanes);
        FASTSERVE_UNROLL(8)
        for (int r = 0; r < R; ++r) acc[r][b * block_vectors + v] = acc[r][b * block_vectors + v] * scale;
      }
    }
  }
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    FASTSERVE_UNROLL(8)
    for (int v = 0; v < vectors; ++v) store(scores + r * chunk_tokens + v * lanes, acc[r][v]);
  }
}

template <class W>
FASTSERVE_INLINE void store_weights(W* to, f32v weights) {
  if constexpr (in_pairs<W>) {
    store_flushed(to, weights);
  } else {
    store(to, weights);
  }
}

/// What `numbers` hold for the tokens of some blocks, [R][chunk_tokens], times these tokens' scales, to
/// `out`; zero for tokens before `from` and from `to` on, whose scales may be anything.
template <class E, int R, class To>
FASTSERVE_INLINE void scale_tokens(To* out, const float* numbers, const E* const* blocks, int from, int to,
                                   int head_dim) {
  for (int t = from / lanes * lanes; t < to; t += lanes) {
    const f32v scale = load(scales_of<E>(blocks[t / block_tokens], head_dim) + t % block_tokens);
    const int first = from > t ? from - t : 0;
    const int last = to - t < lanes ? to - t : lanes;
    for (int r = 0; r < R; ++r) {
      const int at = r * chunk_tokens + t;
      store_weights(out + at, keep(load(numbers + at) * scale, first, last, zero()));
    }
  }
}

/// sums[r] = sums[r] * factor[r] + weights[r] by values, for D vectors of head_dim from `d` on; `n` elements
/// of the last. Tokens [from, to) of the chunk. Meanwhile fetches the values at `ahead`.
template <class E, int R, int D>
FASTSERVE_INLINE void add_values(float* sums, int stride, const float* factor, const float* weights,
                                 const E* const* values, const E* const* ahead, int head_dim, int d, int from,
                                 int to, int n) {
  f32v acc[R][D];
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < D; ++v) acc[r][v] = load(sums + r * stride + v * lanes) * set1(factor[r]);
  }
  constexpr int step = at_once<E>;
  constexpr int vector_bytes = step * lanes * static_cast<int>(sizeof(E));
  for (int t = from / step * step; t < to;) {
    const int end = t / block_tokens * block_tokens + block_tokens;
    const E* row = values[t / block_tokens] + (t % block_tokens) * head_dim + d * step;
    const E* later = ahead[t / block_tokens] + (t % block_tokens) * head_dim + d * step;
    for (const int stop = end < to ? end : to; t < stop;
         t += step, row += step * head_dim, later += step * head_dim) {
      for (int v = 0; v < D; v += 64 / vector_bytes) fetch_kv(later + v * lanes * step);
      f32v value[D];
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < D; ++v) {
        const E* at = row + v * lanes * step;
        value[v] = v + 1 < D || n == lanes ? load_kv(at) : load_kv_n(at, n);
      }
      if constexpr (in_pairs<E>) {
        // Of a pair of which no row sees one token, that token's value is taken for zero.
        if (t < from) {
          FASTSERVE_UNROLL(4)
          for (int v = 0; v < D; ++v) value[v] = second_halves(value[v]);
        }
        if (t + 1 == to) {
          FASTSERVE_UNROLL(4)
          for (int v = 0; v < D; ++v) value[v] = first_halves(value[v]);
        }
      }
      FASTSERVE_UNROLL(8)
      for (int r = 0; r < R; ++r) {
        const f32v weight = set1(weights[(r * chunk_tokens + t) / step]);
        FASTSERVE_UNROLL(4)
        for (int v = 0; v < D; ++v) acc[r][v] = multiply_kv<E>(weight, value[v], acc[r][v]);
      }
    }
  }
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < D; ++v) {
      f32v sum_of = acc[r][v];
      // Products of zero leave a sum as it is, but for subnormals and minus zero, which become zero. They do
      // so here, too: it does not matter whether a row was there while others saw tokens that it does not.
      if constexpr (in_pairs<E>) sum_of = dot2(zero(), zero(), sum_of);
      store(sums + r * stride + v * lanes, sum_of);
    }
  }
}

/// Turns the 64 scores of each of R rows into weights against its new maximum; `total` is their sum.
/// out: the scores' own memory, or where they are wanted as bf16. Step by step for all rows, as each step of
/// a row waits for the one before it.
template <int R, class W>
FASTSERVE_INLINE void to_weights(W* out, const float* scores, const float (&maximum_before)[R],
                                 float (&now)[R], float (&total)[R]) {
  constexpr int vectors = chunk_tokens / lanes;
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    const float* from = scores + r * chunk_tokens;
    f32v best = load(from);
    for (int v = 1; v < vectors; ++v) best = max(best, load(from + v * lanes));
    const float highest = maximum(best);
    now[r] = highest > maximum_before[r] ? highest : maximum_before[r];
  }
  for (int r = 0; r < R; ++r) {
    const f32v subtract = set1(now[r]);
    for (int v = 0; v < vectors; ++v) {
      const int at = r * chunk_tokens + v * lanes;
      const f32v weight = exp(load(scores + at) - subtract);
      store_weights(out + at, weight);
    }
  }
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    f32v sums = zero();
    for (int v = 0; v < vectors; ++v) sums = sums + load(out + r * chunk_tokens + v * lanes);
    total[r] = sum(sums);
  }
}

/// Hides what each row must not see in `count` blocks of scores from token `start` on.
template <int R>
FASTSERVE_INLINE void hide(float* scores, const visible_range& seen, int start, int count) {
  const f32v hidden = set1(-__builtin_inff());
  for (int r = 0; r < R; ++r) {
    if (seen.first[r] <= start && seen.last[r] >= start + count * block_tokens) continue;
    for (int v = 0; v < count * block_vectors; ++v) {
      float* at = scores + r * chunk_tokens + v * lanes;
      int from = seen.first[r] - start - v * lanes;
      int to = seen.last[r] - start - v * lanes;
      from = from < 0 ? 0 : from > lanes ? lanes : from;
      to = to < from ? from : to > lanes ? lanes : to;
      store(at, keep(load(at), from, to, hidden));
    }
  }
}

/// Scores of R rows against blocks [first_block, last_block) of a chunk; the other blocks count as hidden.
template <class E, int R>
FASTSERVE_INLINE void score_chunk(float* scores, const attention_job& job, int chunk,
                                  const visible_range& seen, const float* query, bool fetches,
                                  int first_block, int last_block) {
  const f32v hidden = set1(-__builtin_inff());
  const E* keys[chunk_blocks];
  const E* ahead[chunk_blocks];
  for (int b = first_block; b < last_block; ++b) {
    const int index = chunk * chunk_blocks + b;
    keys[b] = reinterpret_cast<const E*>(job.keys + block_offset(job, index));
    ahead[b] = reinterpret_cast<const E*>(job.keys + later_offset(job, index, seen.high, fetches));
  }
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < chunk_blocks; ++b) {
      if (b >= first_block && b < last_block) continue;
      for (int v = 0; v < block_vectors; ++v) {
        store(scores + r * chunk_tokens + b * block_tokens + v * lanes, hidden);
      }
    }
  }
  for (int b = first_block; b < last_block;) {
    // Two blocks at once halve the loads of the query, where there are registers for it.
    const int count = blocks_at_once == 2 && b + 2 <= last_block ? 2 : 1;
    float* at = scores + b * block_tokens;
    if (count == 2) {
      score_blocks<E, R, blocks_at_once>(at, query, keys + b, ahead + b, job.head_dim);
    } else {
      score_blocks<E, R, 1>(at, query, keys + b, ahead + b, job.head_dim);
    }
    hide<R>(at, seen, chunk * chunk_tokens + b * block_tokens, count);
    b += count;
  }
}

/// Brings one chunk into the states of R rows. fetches: the next chunk meanwhile.
template <class E, int R>
void add_chunk(const attention_job& job, int chunk, const visible_range& seen, const float* query,
               float* states, bool fetches) {
  alignas(64) float scores[R * chunk_tokens];
  alignas(64) float pairs[in_pairs<E> ? R * chunk_tokens / pair : 1];
  const int base = chunk * chunk_tokens;
  const int from = seen.low > base ? seen.low - base : 0;
  const int to = seen.high < base + chunk_tokens ? seen.high - base : chunk_tokens;
  const int first_block = from / block_tokens;
  const int last_block = (to + block_tokens - 1) / block_tokens;
  score_chunk<E, R>(scores, job, chunk, seen, query, fetches, first_block, last_block);
  const E* values[chunk_blocks];
  const E* ahead[chunk_blocks];
  for (int b = first_block; b < last_block; ++b) {
    const int index = chunk * chunk_blocks + b;
    values[b] = reinterpret_cast<const E*>(job.values + block_offset(job, index));
    ahead[b] = reinterpret_cast<const E*>(job.values + later_offset(job, index, seen.high, fetches));
  }
  const int width = padded_dim(job.head_dim);
  const int stride = state_floats(job.head_dim);
  alignas(64) float factor[16] = {};
  float total[R];
  float before[R];
  float best[R];
  for (int r = 0; r < R; ++r) before[r] = states[r * stride + width];
  // Weights that scales multiply are not rounded before.
  if constexpr (in_pairs<E> && !scaled<E>) {
    to_weights<R>(reinterpret_cast<bf16*>(pairs), scores, before, best, total);
  } else {
    to_weights<R>(scores, scores, before, best, total);
  }
  for (int r = 0; r < R; ++r) {
    states[r * stride + width] = best[r];
    factor[r] = before[r] - best[r];
  }
  for (int i = 0; i < R; i += lanes) store(factor + i, exp(load(factor + i)));
  for (int r = 0; r < R; ++r) {
    float& denominator = states[r * stride + width + 1];
    denominator = denominator * factor[r] + total[r];
  }
  if constexpr (scaled<E>) {
    if constexpr (in_pairs<E>) {
      scale_tokens<E, R>(reinterpret_cast<bf16*>(pairs), scores, values, from, to, job.head_dim);
    } else {
      scale_tokens<E, R>(scores, scores, values, from, to, job.head_dim);
    }
  }
  const float* weights = in_pairs<E> ? pairs : scores;
  constexpr int value_vectors = R <= rest_rows / 2 ? 4 : 2;  // of head_dim handled at once
  for (int d = 0; d < job.head_dim;) {
    const int left = job.head_dim - d;
    const bool many = left >= value_vectors * lanes;
    const int n = left < lanes ? left : lanes;
    const auto add = many ? add_values<E, R, value_vectors> : add_values<E, R, 1>;
    add(states + d, stride, factor, weights, values, ahead, job.head_dim, d, from, to, n);
    d += many ? value_vectors * lanes : n;
  }
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
