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

FASTSERVE_INLINE float scalar_to_f32(float x) { return x; }
FASTSERVE_INLINE float scalar_to_f32(f16 x) { return half_to_float(x.bits); }
FASTSERVE_INLINE float scalar_to_f32(bf16 x) { return bfloat_to_float(x.bits); }
FASTSERVE_INLINE void scalar_from_f32(float& to, float x) { to = x; }
FASTSERVE_INLINE void scalar_from_f32(f16& to, float x) { to.bits = float_to_half(x); }
FASTSERVE_INLINE void scalar_from_f32(bf16& to, float x) { to.bits = float_to_bfloat(x); }

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
