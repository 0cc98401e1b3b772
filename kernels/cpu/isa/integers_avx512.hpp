#pragma once

#include "kernels/cpu/isa/simd_avx512.hpp"

// Vectors of 16 i32, also as 64 bytes.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

// Typed by its lanes and not as __m512i: GCC keeps arrays of these in registers.
typedef std::int32_t i32v __attribute__((vector_size(64)));
FASTSERVE_INLINE __m512i raw(i32v x) { return (__m512i)x; }
#ifdef __AVX512VNNI__
constexpr bool room_for_parts = true;  // in registers
constexpr bool short_sums = false;     // VPDPBUSD adds up by itself
constexpr int integer_tile_rows = 6;   // 24 dot products, 4 weights, a broadcast, a mask
constexpr int tile_panels = 2;         // multiplied at once
constexpr int few_row_panels = 4;      // likewise, by few rows
#else
constexpr bool room_for_parts = false;
constexpr bool short_sums = true;     // codes of 0 to 15 are summed in 16 bits first
constexpr int integer_tile_rows = 6;  // 12 dot products; multiplying them takes more
constexpr int tile_panels = 1;
constexpr int few_row_panels = 1;
#endif

FASTSERVE_INLINE i32v zero_i32() { return i32v{}; }
FASTSERVE_INLINE i32v set1_i32(std::int32_t x) { return (i32v)_mm512_set1_epi32(x); }
FASTSERVE_INLINE i32v load_i32(const void* p) { return (i32v)_mm512_loadu_si512(p); }
FASTSERVE_INLINE void store_i32(void* p, i32v x) { _mm512_storeu_si512(p, raw(x)); }
FASTSERVE_INLINE f32v to_f32(i32v x) { return _mm512_cvtepi32_ps(raw(x)); }
FASTSERVE_INLINE i32v max_i32(i32v a, i32v b) { return (i32v)_mm512_max_epi32(raw(a), raw(b)); }
/// The bits of |x|. As integers they order numbers by magnitude, infinity above them and NaN above that.
FASTSERVE_INLINE i32v magnitude(f32v x) { return (i32v)x & 0x7fffffff; }
/// To nearest even, for |x| <= 127.
FASTSERVE_INLINE void store_i8(std::int8_t* p, f32v x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}
FASTSERVE_INLINE i32v low_nibbles(i32v x) { return x & 0x0f0f0f0f; }
FASTSERVE_INLINE i32v high_nibbles(i32v x) { return (i32v)_mm512_srli_epi16(raw(x), 4) & 0x0f0f0f0f; }

/// Sums as they stand here: GCC would add up all products of a step at its end, and keep them in memory until
/// then.
FASTSERVE_INLINE i32v in_order(i32v sums) {
  __asm__("" : "+v"(sums));
  return sums;
}
/// Where short_sums: w[2i] a[2i] + w[2i + 1] a[2i + 1] in 16-bit lanes, w of 0..15; such sums added; and a
/// 32-bit lane's two added.
FASTSERVE_INLINE i32v short_dot_u4(i32v w, i32v a) { return (i32v)_mm512_maddubs_epi16(raw(w), raw(a)); }
FASTSERVE_INLINE i32v add_short(i32v a, i32v b) { return in_order((i32v)_mm512_add_epi16(raw(a), raw(b))); }
FASTSERVE_INLINE i32v sums_of_short(i32v x) { return (i32v)_mm512_madd_epi16(raw(x), _mm512_set1_epi16(1)); }

/// sums + w[4i] a[4i] + ... + w[4i + 3] a[4i + 3] of bytes in 32-bit lanes, a signed and not -128.
/// `dot_u4` takes w of 0..15; `dot_8` takes bytes as they are stored: unsigned where stored_unsigned.
#ifdef __AVX512VNNI__
constexpr bool stored_unsigned = true;
FASTSERVE_INLINE i32v dot_8(i32v sums, i32v w, i32v a) {
  return (i32v)_mm512_dpbusd_epi32(raw(sums), raw(w), raw(a));
}
FASTSERVE_INLINE i32v dot_u4(i32v sums, i32v w, i32v a) { return dot_8(sums, w, a); }
#else
constexpr bool stored_unsigned = false;
FASTSERVE_INLINE i32v add_pairs(i32v sums, __m512i pairs) {
  return in_order(sums + (i32v)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
FASTSERVE_INLINE i32v dot_8(i32v sums, i32v w, i32v a) {
  // |w| times a with w's sign: below 2 * 128 * 127, no saturation.
  const __m512i turned =
      _mm512_mask_sub_epi8(raw(a), _mm512_movepi8_mask(raw(w)), _mm512_setzero_si512(), raw(a));
  return add_pairs(sums, _mm512_maddubs_epi16(_mm512_abs_epi8(raw(w)), turned));
}
FASTSERVE_INLINE i32v dot_u4(i32v sums, i32v w, i32v a) {
  return add_pairs(sums, _mm512_maddubs_epi16(raw(w), raw(a)));
}
#endif

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
