#pragma once

#include <array>
#include <cstdint>

namespace fastserve::model {

/// Philox 4x32-10, a counter-based generator: a block of 128 random bits is a function of a 128-bit counter
/// and a 64-bit key, with no state between (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as
/// 1, 2, 3; SC 2011). Integer arithmetic only, so the same on every machine.
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                              std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const auto a = std::uint64_t{0xD2511F53U} * counter[0];
    const auto b = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32U) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32U) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

/// Uniform in [0, 1) with 53 bits, a function of a request's seed and a token's position in its sequence.
constexpr double uniform_at(std::uint64_t seed, std::uint64_t position) {
  const auto r =
      philox({static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32U), 0, 0},
             {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U)});
  const auto bits = (std::uint64_t{r[1]} << 32U | r[0]) >> 11U;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace fastserve::model
