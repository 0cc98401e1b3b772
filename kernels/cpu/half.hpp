#pragma once

#include <cstdint>

// Scalar conversions of 16-bit floats, bit by bit. All static: every translation unit has its own copy,
// because they are compiled for several instruction sets.

namespace fastserve::kernels::cpu {

static inline std::uint32_t bits_of(float x) {
  std::uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}

static inline float float_of(std::uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}

static inline float bfloat_to_float(std::uint16_t h) { return float_of(static_cast<std::uint32_t>(h) << 16); }

/// To nearest, ties to even; a NaN stays one (made quiet).
static inline std::uint16_t float_to_bfloat(float x) {
  const std::uint32_t u = bits_of(x);
  if ((u & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((u >> 16) | 0x40U);
  return static_cast<std::uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
}

static inline float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000U) << 16;
  const std::uint32_t magnitude = h & 0x7fffU;
  if (magnitude >= 0x7c00U) {  // infinity, NaN (made quiet)
    return float_of(sign | 0x7f800000U | ((magnitude & 0x3ffU) << 13) |
                    (magnitude > 0x7c00U ? 0x400000U : 0U));
  }
  if (magnitude < 0x400U) {  // zero and subnormals: a multiple of 2^-24, exact in f32
    const float value = static_cast<float>(magnitude) * 0x1p-24F;
    return float_of(bits_of(value) | sign);
  }
  return float_of(sign | ((magnitude << 13) + 0x38000000U));
}

/// To nearest, ties to even; overflow gives infinity.
static inline std::uint16_t float_to_half(float x) {
  const std::uint32_t u = bits_of(x);
  const std::uint32_t sign = (u >> 16) & 0x8000U;
  const std::uint32_t magnitude = u & 0x7fffffffU;
  if (magnitude > 0x7f800000U)
    return static_cast<std::uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
  if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // >= 65520
  if (magnitude <
      0x38800000U) {  // < 2^-14: adding 0.5 leaves the multiple of 2^-24, rounded, in the low bits
    const float shifted = float_of(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (bits_of(shifted) - 0x3f000000U));
  }
  const std::uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

}  // namespace fastserve::kernels::cpu
