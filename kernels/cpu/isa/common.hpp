#pragma once

// Included by the vector headers of isa/ only. Everything in isa/ lives in an unnamed namespace inside the
// namespace of its instruction set: internal linkage, so that no symbol of it can be merged across sets.

#include <cstdint>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/table.hpp"

#define FASTSERVE_PRAGMA(x) _Pragma(#x)
#ifdef __clang__
#define FASTSERVE_UNROLL(n) FASTSERVE_PRAGMA(unroll n)
#else
#define FASTSERVE_UNROLL(n) FASTSERVE_PRAGMA(GCC unroll n)
#endif
#define FASTSERVE_INLINE inline __attribute__((always_inline))

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

struct f16 {
  std::uint16_t bits;
};
struct bf16 {
  std::uint16_t bits;
};
using i8 = std::int8_t;

FASTSERVE_INLINE float scalar_to_f32(float x) { return x; }
FASTSERVE_INLINE float scalar_to_f32(f16 x) { return half_to_float(x.bits); }
FASTSERVE_INLINE float scalar_to_f32(bf16 x) { return bfloat_to_float(x.bits); }
FASTSERVE_INLINE float scalar_to_f32(i8 x) { return static_cast<float>(x); }
FASTSERVE_INLINE void scalar_from_f32(float& to, float x) { to = x; }
FASTSERVE_INLINE void scalar_from_f32(f16& to, float x) { to.bits = float_to_half(x); }
FASTSERVE_INLINE void scalar_from_f32(bf16& to, float x) { to.bits = float_to_bfloat(x); }

/// Whether elements of a KV block of this type are multiples of a scale for each token.
template <class E>
constexpr bool scaled = false;
template <>
inline constexpr bool scaled<i8> = true;

/// Those of the 16 tokens whose keys, or values, begin at `elements`.
template <class E>
FASTSERVE_INLINE float* scales_of(void* elements, int head_dim) {
  return reinterpret_cast<float*>(static_cast<E*>(elements) + head_dim * block_tokens);
}
template <class E>
FASTSERVE_INLINE const float* scales_of(const void* elements, int head_dim) {
  return reinterpret_cast<const float*>(static_cast<const E*>(elements) + head_dim * block_tokens);
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
