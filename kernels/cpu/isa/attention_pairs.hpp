#pragma once

// Attention to bf16 and i8 keys and values where the processor multiplies pairs of bf16 (VDPBF16PS: two
// products added to an f32, each sum rounded to nearest, subnormals taken for zero). Queries, scaled, and the
// softmax's weights are rounded to bf16, as GPUs' matrix units want them; i8 is widened to bf16 exactly. Keys
// of a block lie [head_dim / 2][16 tokens][2], an odd last element [16 tokens] behind them; values lie
// [8][head_dim][2 tokens].

#include "kernels/cpu/isa/math.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

/// Whether blocks of E lie in pairs.
template <class E>
constexpr bool in_pairs = false;
template <>
inline constexpr bool in_pairs<bf16> = has_dot;
template <>
inline constexpr bool in_pairs<i8> = has_dot;

/// Elements that a pair's line of keys or values is long, for each token or element.
constexpr int pair = 2;

/// One half of each pair, zero in place of the other.
FASTSERVE_INLINE f32v first_halves(f32v pairs) { return (f32v)((i32v)pairs & 0xffff); }
FASTSERVE_INLINE f32v second_halves(f32v pairs) { return (f32v)((i32v)pairs & ~0xffff); }
/// 16 pairs as they lie in memory.
FASTSERVE_INLINE f32v load_pairs(const bf16* p) { return load(reinterpret_cast<const float*>(p)); }
FASTSERVE_INLINE f32v load_pairs_n(const bf16* p, int n) {
  return load_n(reinterpret_cast<const float*>(p), n);
}
/// Pairs of an element and zero.
template <class E>
FASTSERVE_INLINE f32v with_zeros(const E* from) {
  return first_halves((f32v)((i32v)load(from) >> 16));
}

/// Two bf16 as they lie in memory.
FASTSERVE_INLINE float pair_at(const bf16* from) {
  float both;
  __builtin_memcpy(&both, from, sizeof both);
  return both;
}

/// A row's query times `scale` to every `R`-th place: [head_dim / 2, rounded up][R].
template <int R>
FASTSERVE_INLINE void load_query_pairs(float* to, const float* from, float scale, int head_dim) {
  for (int d = 0; d < head_dim; d += lanes) {
    const int n = head_dim - d < lanes ? head_dim - d : lanes;
    bf16 rounded[lanes];  // zero behind the last
    store(rounded, load_n(from + d, n) * set1(scale));
    for (int i = 0; i < n; i += pair) to[(d + i) / pair * R] = pair_at(rounded + i);
  }
}

/// Scores of B blocks that follow one another, as score_blocks of attention_chunk.hpp; scales are left out.
template <class E, int R, int B>
FASTSERVE_INLINE void score_pairs(float* scores, const float* query, const E* const* keys,
                                  const E* const* ahead, int head_dim) {
  constexpr int line = pair * block_tokens;
  f32v acc[R][B];
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    FASTSERVE_UNROLL(2)
    for (int b = 0; b < B; ++b) acc[r][b] = zero();
  }
  const auto multiply = [&](const f32v(&key)[B], const float* by) {
    FASTSERVE_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      const f32v q = set1(by[r]);
      FASTSERVE_UNROLL(2)
      for (int b = 0; b < B; ++b) acc[r][b] = dot2(q, key[b], acc[r][b]);
    }
  };
  for (int d = 0; d < head_dim / pair; ++d) {
    f32v key[B];
    FASTSERVE_UNROLL(2)
    for (int b = 0; b < B; ++b) {
      key[b] = load_pairs(keys[b] + d * line);
      prefetch_l2(ahead[b] + d * line);
    }
    multiply(key, query + d * R);
  }
  if (head_dim % pair != 0) {
    f32v key[B];
    FASTSERVE_UNROLL(2)
    for (int b = 0; b < B; ++b) key[b] = with_zeros(keys[b] + head_dim / pair * line);
    multiply(key, query + head_dim / pair * R);
  }
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    FASTSERVE_UNROLL(2)
    for (int b = 0; b < B; ++b) store(scores + r * chunk_tokens + b * lanes, acc[r][b]);
  }
}

/// As add_values of attention_chunk.hpp. weights: [R][chunk_tokens / 2] pairs of tokens. Of a pair of which
/// no row sees one token, that token's value is taken for zero.
template <class E, int R, int D>
FASTSERVE_INLINE void add_value_pairs(float* sums, int stride, const float* factor, const float* weights,
                                      const E* const* values, const E* const* ahead, int head_dim, int d,
                                      int from, int to, int n) {
  f32v acc[R][D];
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < D; ++v) acc[r][v] = load(sums + r * stride + v * lanes) * set1(factor[r]);
  }
  for (int t = from / pair * pair; t < to; t += pair) {
    const std::int64_t at = static_cast<std::int64_t>(t % block_tokens) * head_dim + pair * d;
    const E* row = values[t / block_tokens] + at;
    const E* later = ahead[t / block_tokens] + at;
    f32v value[D];
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < D; ++v) {
      const E* pairs = row + v * pair * lanes;
      value[v] = v + 1 < D || n == lanes ? load_pairs(pairs) : load_pairs_n(pairs, n);
      prefetch_l2(later + v * pair * lanes);
    }
    if (t < from) {
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < D; ++v) value[v] = second_halves(value[v]);
    }
    if (t + 1 == to) {
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < D; ++v) value[v] = first_halves(value[v]);
    }
    FASTSERVE_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      const f32v weight = set1(weights[(r * chunk_tokens + t) / pair]);
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < D; ++v) acc[r][v] = dot2(weight, value[v], acc[r][v]);
    }
  }
  FASTSERVE_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    // Products of zero leave a sum as it is, but for subnormals and minus zero, which become zero. They do so
    // here, too: it does not matter whether a row was there while others saw tokens that it does not.
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < D; ++v) store(sums + r * stride + v * lanes, dot2(zero(), zero(), acc[r][v]));
  }
}

/// Where element `d` of the token in slot `slot` lies in a block.
FASTSERVE_INLINE std::int64_t key_in_pairs(int d, int slot, int head_dim) {
  const int even = head_dim / pair * pair;
  return d < even ? d / pair * pair * block_tokens + slot * pair + d % pair : even * block_tokens + slot;
}
FASTSERVE_INLINE std::int64_t value_in_pairs(int d, int slot, int head_dim) {
  return static_cast<std::int64_t>(slot / pair) * pair * head_dim + d * pair + slot % pair;
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
