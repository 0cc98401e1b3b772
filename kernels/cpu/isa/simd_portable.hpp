#pragma once

#include "kernels/cpu/isa/common.hpp"

// Vectors of 4 f32 in the compiler's own vector type: no instruction set assumed. Compiled with
// -ffp-contract=off, so that every multiply-add rounds twice, everywhere.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

typedef float f32v __attribute__((vector_size(16)));
typedef std::int32_t i32v __attribute__((vector_size(16)));
constexpr int lanes = 4;
constexpr int tile_vectors = 2;  // panel = 8 columns
constexpr int tile_rows = 4;     // 8 sums, 2 weights, a broadcast
constexpr int stream_panels = 1;
constexpr int query_rows = 2;
constexpr bool has_dot = false;

FASTSERVE_INLINE f32v zero() { return f32v{}; }
FASTSERVE_INLINE f32v set1(float x) { return f32v{x, x, x, x}; }
FASTSERVE_INLINE f32v fma(f32v a, f32v b, f32v c) { return a * b + c; }
FASTSERVE_INLINE f32v pick(i32v mask, f32v x, f32v y) { return (f32v)((mask & (i32v)x) | (~mask & (i32v)y)); }
FASTSERVE_INLINE f32v select_less(f32v a, f32v b, f32v x, f32v y) { return pick((i32v)(a < b), x, y); }
FASTSERVE_INLINE f32v max(f32v a, f32v b) { return pick((i32v)(a > b), a, b); }
FASTSERVE_INLINE f32v min(f32v a, f32v b) { return pick((i32v)(a < b), a, b); }
/// For |a| < 2^22: the sum's last bit weighs 1.
FASTSERVE_INLINE f32v nearest(f32v a) {
  const f32v magic = set1(12582912.0F);
  return (a + magic) - magic;
}
FASTSERVE_INLINE f32v scale2(f32v a, f32v n) {
  const i32v whole = __builtin_convertvector(n, i32v);
  const i32v half = whole >> 1;
  const i32v rest = whole - half;
  return a * (f32v)((half + 127) << 23) * (f32v)((rest + 127) << 23);
}
FASTSERVE_INLINE f32v keep(f32v a, int from, int to, f32v fill) {
  const i32v index = {0, 1, 2, 3};
  return pick((i32v)(index >= from) & (i32v)(index < to), a, fill);
}

template <class E>
FASTSERVE_INLINE f32v load_n(const E* p, int n) {
  f32v x = zero();
  for (int i = 0; i < n; ++i) {
    E e;
    __builtin_memcpy(&e, p + i, sizeof e);
    x[i] = scalar_to_f32(e);
  }
  return x;
}
template <class E>
FASTSERVE_INLINE f32v load(const E* p) {
  return load_n(p, lanes);
}
FASTSERVE_INLINE f32v load(const float* p) {
  f32v x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
template <class E>
FASTSERVE_INLINE void store_n(E* p, f32v x, int n) {
  for (int i = 0; i < n; ++i) {
    E e;
    scalar_from_f32(e, x[i]);
    __builtin_memcpy(p + i, &e, sizeof e);
  }
}
template <class E>
FASTSERVE_INLINE void store(E* p, f32v x) {
  store_n(p, x, lanes);
}
FASTSERVE_INLINE void store(float* p, f32v x) { __builtin_memcpy(p, &x, sizeof x); }

FASTSERVE_INLINE float sum(f32v x) { return (x[0] + x[2]) + (x[1] + x[3]); }
FASTSERVE_INLINE float maximum(f32v x) {
  const float a = x[0] > x[2] ? x[0] : x[2];
  const float b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}

FASTSERVE_INLINE void prefetch_l1(const void* p) { __builtin_prefetch(p, 0, 3); }
FASTSERVE_INLINE void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }
FASTSERVE_INLINE f32v dot2(f32v, f32v, f32v sums) { return sums; }

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
