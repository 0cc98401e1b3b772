#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

// Numbers of 8 bits: sign, 4 bits of exponent (bias 7), 3 of fraction, without infinities (OCP 8-bit Floating
// Point Specification, E4M3). 0x7f and 0xff are no numbers.

namespace fastserve::kernels {

inline constexpr float largest_e4m3 = 448.0F;

/// What each code stands for.
inline constexpr std::array<float, 256> e4m3_values = [] {
  std::array<float, 256> values{};
  for (std::uint32_t code = 0; code < values.size(); ++code) {
    const std::uint32_t exponent = code >> 3 & 15U;
    const std::uint32_t fraction = code & 7U;
    const std::uint32_t step = exponent == 0 ? 1 : exponent;  // subnormal ones are as far apart
    const auto steps = static_cast<float>(exponent == 0 ? fraction : 8 + fraction);
    const float magnitude = (code & 0x7fU) == 0x7fU ? std::numeric_limits<float>::quiet_NaN()
                                                    : steps * std::bit_cast<float>((step - 10 + 127) << 23);
    values[code] = (code & 0x80U) != 0 ? -magnitude : magnitude;
  }
  return values;
}();

/// To the nearest, ties to even; what is larger than all becomes the largest, and no number stays none.
inline std::uint8_t to_e4m3(double x) {
  const auto sign = static_cast<std::uint8_t>(std::signbit(x) ? 0x80 : 0);
  if (std::isnan(x)) return sign | 0x7fU;
  const double magnitude = std::min(std::abs(x), double{largest_e4m3});
  if (magnitude < 0x1p-6)  // adding 2^43 leaves the multiple of 2^-9, rounded, in the low bits
    return static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint64_t>(magnitude + 0x1p43) & 15U));
  constexpr int cut = 52 - 3;  // bits of a double's fraction that go; a carry goes on into the exponent
  const auto bits = std::bit_cast<std::uint64_t>(magnitude);
  const auto rounded = (bits + (std::uint64_t{1} << (cut - 1)) - 1 + (bits >> cut & 1U)) >> cut;
  return static_cast<std::uint8_t>(sign | (rounded - ((1023 - 7) << 3)));
}

}  // namespace fastserve::kernels
