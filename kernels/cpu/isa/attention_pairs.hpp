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

constexpr int pair = 2;
/// Elements of a key, or tokens of values, that are multiplied at once.
template <class E>
constexpr int at_once = in_pairs<E> ? pair : 1;

/// One half of each pair, zero in place of the other.
FASTSERVE_INLINE f32v first_halves(f32v pairs) { return (f32v)((i32v)pairs & 0xffff); }
FASTSERVE_INLINE f32v second_halves(f32v pairs) { return (f32v)((i32v)pairs & ~0xffff); }
/// 16 pairs as they lie in memory.
FASTSERVE_INLINE f32v load_pairs(const bf16* p) { return load(reinterpret_cast<const float*>(p)); }
FASTSERVE_INLINE f32v load_pairs_n(const bf16* p, int n) {
  return load_n(reinterpret_cast<const float*>(p), n);
}
/// Keys or values to multiply, and to be multiplied.
template <class E>
FASTSERVE_INLINE f32v load_kv(const E* p) {
  if constexpr (in_pairs<E>) return load_pairs(p);
  return load(p);
}
template <class E>
FASTSERVE_INLINE f32v load_kv_n(const E* p, int n) {
  if constexpr (in_pairs<E>) return load_pairs_n(p, n);
  return load_n(p, n);
}
template <class E>
FASTSERVE_INLINE f32v multiply_kv(f32v by, f32v kv, f32v sums) {
  if constexpr (in_pairs<E>) return dot2(by, kv, sums);
  return fma(by, kv, sums);
}
template <class E>
FASTSERVE_INLINE void fetch_kv(const E* p) {
  if constexpr (in_pairs<E>) return prefetch_l2(p);
  prefetch_l1(p);
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
