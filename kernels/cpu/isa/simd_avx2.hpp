#pragma once

#include <immintrin.h>

#include "kernels/cpu/isa/common.hpp"

// Vectors of 8 f32. *_n variants touch the first n (0..8) elements only; loads fill with zero.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

using f32v = __m256;
constexpr int lanes = 8;
constexpr int tile_vectors = 2;  // panel = 16 columns
constexpr int tile_rows = 6;     // 12 sums, 2 weights, a broadcast
constexpr int stream_panels =
    4;                         // that one row takes at once: Zen 3 reads 25 GB/s of four streams, 20 of one
constexpr int query_rows = 6;  // of one attention tile: 12 sums, 2 keys, a broadcast
constexpr bool has_dot = false;

/// All ones in elements [0, n).
FASTSERVE_INLINE __m256i first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

FASTSERVE_INLINE f32v zero() { return _mm256_setzero_ps(); }
FASTSERVE_INLINE f32v set1(float x) { return _mm256_set1_ps(x); }
FASTSERVE_INLINE f32v fma(f32v a, f32v b, f32v c) { return _mm256_fmadd_ps(a, b, c); }
FASTSERVE_INLINE f32v max(f32v a, f32v b) { return _mm256_max_ps(a, b); }
FASTSERVE_INLINE f32v min(f32v a, f32v b) { return _mm256_min_ps(a, b); }
FASTSERVE_INLINE f32v nearest(f32v a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/// a * 2^n for whole n in [-252, 252]: in two steps, since 2^n itself may not be a normal number.
FASTSERVE_INLINE f32v scale2(f32v a, f32v n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const f32v x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const f32v y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(a, x), y);
}
/// a < b ? x : y
FASTSERVE_INLINE f32v select_less(f32v a, f32v b, f32v x, f32v y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
/// Elements [from, to) of a, `fill` elsewhere.
FASTSERVE_INLINE f32v keep(f32v a, int from, int to, f32v fill) {
  return _mm256_blendv_ps(fill, a, _mm256_castsi256_ps(_mm256_andnot_si256(first(from), first(to))));
}

FASTSERVE_INLINE f32v load(const float* p) { return _mm256_loadu_ps(p); }
FASTSERVE_INLINE f32v load_n(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
FASTSERVE_INLINE void store(float* p, f32v x) { _mm256_storeu_ps(p, x); }
FASTSERVE_INLINE void store_n(float* p, f32v x, int n) { _mm256_maskstore_ps(p, first(n), x); }

FASTSERVE_INLINE f32v widen(__m128i x, f16) { return _mm256_cvtph_ps(x); }
FASTSERVE_INLINE f32v widen(__m128i x, bf16) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
FASTSERVE_INLINE __m128i narrow(f32v x, f16) {
  return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
FASTSERVE_INLINE __m128i narrow(f32v x, bf16) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
template <class E>
FASTSERVE_INLINE f32v load(const E* p) {
  return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), E{});
}
FASTSERVE_INLINE f32v load(const i8* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
template <class E>
FASTSERVE_INLINE f32v load_n(const E* p, int n) {
  E all[lanes] = {};
  __builtin_memcpy(all, p, sizeof(E) * static_cast<unsigned>(n));
  return load(all);
}
template <class E>
FASTSERVE_INLINE void store(E* p, f32v x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x, E{}));
}
template <class E>
FASTSERVE_INLINE void store_n(E* p, f32v x, int n) {
  E all[lanes];
  store(all, x);
  __builtin_memcpy(p, all, sizeof(E) * static_cast<unsigned>(n));
}

FASTSERVE_INLINE float sum(f32v x) {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
FASTSERVE_INLINE float maximum(f32v x) {
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

FASTSERVE_INLINE void prefetch_l1(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
FASTSERVE_INLINE void prefetch_l2(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }
FASTSERVE_INLINE f32v dot2(f32v, f32v, f32v sums) { return sums; }

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
