#pragma once

#include "kernels/cpu/isa/simd_portable.hpp"

// Vectors of 4 i32, also as 16 bytes. What the names mean is told in integers_avx512.hpp.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

typedef std::int8_t i8v __attribute__((vector_size(16)));
typedef std::uint8_t u8v __attribute__((vector_size(16)));
typedef std::int16_t i16v __attribute__((vector_size(16)));
constexpr bool room_for_parts = false;
constexpr bool short_sums = true;
constexpr int integer_tile_rows = 2;
constexpr bool stored_unsigned = false;

constexpr int tile_panels = 1;     // multiplied at once
constexpr int few_row_panels = 1;  // likewise, by few rows

FASTSERVE_INLINE i32v zero_i32() { return i32v{}; }
FASTSERVE_INLINE i32v set1_i32(std::int32_t x) { return i32v{x, x, x, x}; }
FASTSERVE_INLINE i32v load_i32(const void* p) {
  i32v x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
FASTSERVE_INLINE void store_i32(void* p, i32v x) { __builtin_memcpy(p, &x, sizeof x); }
FASTSERVE_INLINE f32v to_f32(i32v x) { return __builtin_convertvector(x, f32v); }
FASTSERVE_INLINE i32v max_i32(i32v a, i32v b) {
  const i32v greater = a > b;
  return (greater & a) | (~greater & b);
}
FASTSERVE_INLINE i32v magnitude(f32v x) { return (i32v)x & 0x7fffffff; }
FASTSERVE_INLINE void store_i8(std::int8_t* p, f32v x) {
  const f32v whole = nearest(x);
  // Not a number: the record's scale tells.
  for (int i = 0; i < lanes; ++i) p[i] = static_cast<std::int8_t>(whole[i] == whole[i] ? whole[i] : 0.0F);
}
FASTSERVE_INLINE i32v low_nibbles(i32v x) { return x & 0x0f0f0f0f; }
FASTSERVE_INLINE i32v high_nibbles(i32v x) { return (x >> 4) & 0x0f0f0f0f; }

/// Byte `j` of every lane, with its sign.
FASTSERVE_INLINE i32v byte_of(i32v x, int j) { return (x << (24 - 8 * j)) >> 24; }
FASTSERVE_INLINE i32v dot_8(i32v sums, i32v w, i32v a) {
  for (int j = 0; j < 4; ++j) sums += byte_of(w, j) * byte_of(a, j);
  return sums;
}
FASTSERVE_INLINE i32v short_dot_u4(i32v w, i32v a) {
  const auto ws = (i16v)w;
  const auto as = (i16v)a;
  return (i32v)((ws & 0xff) * ((as << 8) >> 8) + (ws >> 8) * (as >> 8));
}
FASTSERVE_INLINE i32v add_short(i32v a, i32v b) { return (i32v)((i16v)a + (i16v)b); }
FASTSERVE_INLINE i32v sums_of_short(i32v x) { return ((x << 16) >> 16) + (x >> 16); }
FASTSERVE_INLINE i32v dot_u4(i32v sums, i32v w, i32v a) { return dot_8(sums, w, a); }

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
