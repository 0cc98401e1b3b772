#pragma once

#include <immintrin.h>

#include "kernels/cpu/isa/common.hpp"

// Vectors of 16 f32. *_n variants touch the first n (0..16) elements only; loads fill with zero.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

using f32v = __m512;
constexpr int lanes = 16;
constexpr int tile_vectors = 2;   // panel = 32 columns
constexpr int tile_rows = 12;     // 24 sums, 2 weights, a broadcast
constexpr int stream_panels = 1;  // that one row takes at once
constexpr int query_rows = 8;     // of one attention tile

FASTSERVE_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1U << n) - 1U); }

FASTSERVE_INLINE f32v zero() { return _mm512_setzero_ps(); }
FASTSERVE_INLINE f32v set1(float x) { return _mm512_set1_ps(x); }
FASTSERVE_INLINE f32v fma(f32v a, f32v b, f32v c) { return _mm512_fmadd_ps(a, b, c); }
FASTSERVE_INLINE f32v max(f32v a, f32v b) { return _mm512_max_ps(a, b); }
FASTSERVE_INLINE f32v min(f32v a, f32v b) { return _mm512_min_ps(a, b); }
FASTSERVE_INLINE f32v nearest(f32v a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
FASTSERVE_INLINE f32v scale2(f32v a, f32v n) { return _mm512_scalef_ps(a, n); }
/// a < b ? x : y
FASTSERVE_INLINE f32v select_less(f32v a, f32v b, f32v x, f32v y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
/// Elements [from, to) of a, `fill` elsewhere.
FASTSERVE_INLINE f32v keep(f32v a, int from, int to, f32v fill) {
  return _mm512_mask_blend_ps(static_cast<__mmask16>(first(to) & ~first(from)), fill, a);
}

FASTSERVE_INLINE f32v load(const float* p) { return _mm512_loadu_ps(p); }
FASTSERVE_INLINE f32v load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
FASTSERVE_INLINE void store(float* p, f32v x) { _mm512_storeu_ps(p, x); }
FASTSERVE_INLINE void store_n(float* p, f32v x, int n) { _mm512_mask_storeu_ps(p, first(n), x); }

FASTSERVE_INLINE f32v widen(__m256i x, f16) { return _mm512_cvtph_ps(x); }
FASTSERVE_INLINE f32v widen(__m256i x, bf16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
FASTSERVE_INLINE __m256i narrow(f32v x, f16) {
  return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// By integers and not by VCVTNEPS2BF16, which flushes subnormals.
FASTSERVE_INLINE __m256i narrow(f32v x, bf16) {
  const __m512i u = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16));
}
template <class E>
FASTSERVE_INLINE f32v load(const E* p) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), E{});
}
template <class E>
FASTSERVE_INLINE f32v load_n(const E* p, int n) {
  return widen(_mm256_maskz_loadu_epi16(first(n), p), E{});
}
FASTSERVE_INLINE f32v load(const i8* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
FASTSERVE_INLINE f32v load_n(const i8* p, int n) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(n), p)));
}
template <class E>
FASTSERVE_INLINE void store(E* p, f32v x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x, E{}));
}
template <class E>
FASTSERVE_INLINE void store_n(E* p, f32v x, int n) {
  _mm256_mask_storeu_epi16(p, first(n), narrow(x, E{}));
}

FASTSERVE_INLINE __m256 low(f32v x) { return _mm512_castps512_ps256(x); }
FASTSERVE_INLINE __m256 high(f32v x) { return _mm512_extractf32x8_ps(x, 1); }
FASTSERVE_INLINE float sum(f32v x) {
  const __m256 a = _mm256_add_ps(low(x), high(x));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
FASTSERVE_INLINE float maximum(f32v x) {
  const __m256 a = _mm256_max_ps(low(x), high(x));
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

FASTSERVE_INLINE void prefetch_l1(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
FASTSERVE_INLINE void prefetch_l2(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

#ifdef __AVX512BF16__
constexpr bool has_dot = true;
/// sums + a[2i] b[2i] + a[2i + 1] b[2i + 1] of bf16 pairs held in 32-bit lanes.
FASTSERVE_INLINE f32v dot2(f32v a, f32v b, f32v sums) {
  return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}
/// 16 pairs of i8 as bf16, exactly.
FASTSERVE_INLINE f32v load_pairs(const i8* p) {
  return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(load(p + lanes), load(p)));
}
FASTSERVE_INLINE f32v load_pairs_n(const i8* p, int n) {
  const int first_half = 2 * n < lanes ? 2 * n : lanes;
  const f32v low_half = load_n(p, first_half);
  return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(load_n(p + lanes, 2 * n - first_half), low_half));
}
/// To nearest even, subnormals to zero.
FASTSERVE_INLINE void store_flushed(bf16* p, f32v x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x));
}
#else
constexpr bool has_dot = false;
FASTSERVE_INLINE f32v dot2(f32v, f32v, f32v sums) { return sums; }
#endif

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
