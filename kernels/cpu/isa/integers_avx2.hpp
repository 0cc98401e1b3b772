#pragma once

#include "kernels/cpu/isa/simd_avx2.hpp"

// Vectors of 8 i32, also as 32 bytes. What the names mean is told in integers_avx512.hpp.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

// Typed by its lanes and not as __m256i: GCC keeps arrays of these in registers.
typedef std::int32_t i32v __attribute__((vector_size(32)));
FASTSERVE_INLINE __m256i raw(i32v x) { return (__m256i)x; }

constexpr int tile_panels = 1;  // multiplied at once

FASTSERVE_INLINE i32v zero_i32() { return i32v{}; }
FASTSERVE_INLINE i32v set1_i32(std::int32_t x) { return (i32v)_mm256_set1_epi32(x); }
FASTSERVE_INLINE i32v load_i32(const void* p) {
  return (i32v)_mm256_loadu_si256(static_cast<const __m256i*>(p));
}
FASTSERVE_INLINE void store_i32(void* p, i32v x) { _mm256_storeu_si256(static_cast<__m256i*>(p), raw(x)); }
FASTSERVE_INLINE f32v to_f32(i32v x) { return _mm256_cvtepi32_ps(raw(x)); }
FASTSERVE_INLINE i32v max_i32(i32v a, i32v b) { return (i32v)_mm256_max_epi32(raw(a), raw(b)); }
FASTSERVE_INLINE i32v magnitude(f32v x) { return (i32v)x & 0x7fffffff; }
FASTSERVE_INLINE void store_i8(std::int8_t* p, f32v x) {
  const __m256i n = _mm256_cvtps_epi32(x);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
FASTSERVE_INLINE i32v low_nibbles(i32v x) { return x & 0x0f0f0f0f; }
FASTSERVE_INLINE i32v high_nibbles(i32v x) { return (i32v)_mm256_srli_epi16(raw(x), 4) & 0x0f0f0f0f; }

FASTSERVE_INLINE i32v in_order(i32v sums) {
  __asm__("" : "+x"(sums));
  return sums;
}
FASTSERVE_INLINE i32v short_dot_u4(i32v w, i32v a) { return (i32v)_mm256_maddubs_epi16(raw(w), raw(a)); }
FASTSERVE_INLINE i32v add_short(i32v a, i32v b) { return in_order((i32v)_mm256_add_epi16(raw(a), raw(b))); }
FASTSERVE_INLINE i32v sums_of_short(i32v x) { return (i32v)_mm256_madd_epi16(raw(x), _mm256_set1_epi16(1)); }

#ifdef __AVXVNNI__
constexpr int few_row_panels = 1;  // likewise, by few rows
constexpr bool room_for_parts = false;
constexpr bool short_sums = false;
constexpr int integer_tile_rows = 3;  // 6 dot products, 6 parts, 2 weights, a broadcast
constexpr bool stored_unsigned = true;
FASTSERVE_INLINE i32v dot_8(i32v sums, i32v w, i32v a) {
  return (i32v)_mm256_dpbusd_avx_epi32(raw(sums), raw(w), raw(a));
}
FASTSERVE_INLINE i32v dot_u4(i32v sums, i32v w, i32v a) { return dot_8(sums, w, a); }
#else
constexpr int few_row_panels = 4;  // likewise, by few rows
constexpr bool room_for_parts = false;
constexpr bool short_sums = true;
constexpr int integer_tile_rows = 4;  // 8 dot products, 2 weights and magnitudes, four more
constexpr bool stored_unsigned = false;
FASTSERVE_INLINE i32v add_pairs(i32v sums, __m256i pairs) {
  return in_order(sums + (i32v)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
FASTSERVE_INLINE i32v dot_8(i32v sums, i32v w, i32v a) {
  return add_pairs(sums, _mm256_maddubs_epi16(_mm256_abs_epi8(raw(w)), _mm256_sign_epi8(raw(a), raw(w))));
}
FASTSERVE_INLINE i32v dot_u4(i32v sums, i32v w, i32v a) {
  return add_pairs(sums, _mm256_maddubs_epi16(raw(w), raw(a)));
}
#endif

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
