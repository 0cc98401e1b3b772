#pragma once

#include <bit>
#include <cstdint>

// The arithmetic of drawing a token, once for the host and for devices: they must draw the same one. Single
// precision in a fixed order and no library call, because the C library's exp differs between processors in
// the last bit; sums of integers, which do not depend on the order, so any number of threads may add. Whoever
// includes this is compiled without contraction to fused multiply-add.

namespace fastserve::kernels {

/// e^x for x <= 0 with a relative error below 3e-7; 0 below -87.
constexpr float fixed_exp(float x) {
  // e^x = 2^n e^r, |r| <= ln(2) / 2; ln(2) in two parts (Cody and Waite), n by adding and taking away 1.5 *
  // 2^23. No branches: loops over it become vector code.
  const float y = x < -88.0F ? -88.0F : x;
  const float magic = 12582912.0F;
  const float n = (y * 1.44269504F + magic) - magic;
  const float r = (y - n * 0.693359375F) + n * 2.12194440e-4F;
  // Taylor to the 7th power: 1.2e-8 at the ends
  float p = 1.0F / 5040.0F;
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const auto exponent = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127) << 23U;
  const float scaled = p * std::bit_cast<float>(exponent);
  const std::uint32_t keep = x < -87.0F ? 0U : ~0U;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) & keep);
}

/// Weight of the likeliest token. Sums over 2^22 tokens are exact as double, too.
inline constexpr std::uint32_t full_weight = std::uint32_t{1} << 30U;

/// A token's probability as a multiple of 2^-30 of the likeliest one's, to nearest: what is less likely than
/// half of that weighs nothing. `max`: the largest score, finite; temperature > 0; a score of -inf weighs 0.
constexpr std::uint32_t token_weight(float score, float max, float temperature) {
  const float weight = fixed_exp((score - max) / temperature) * static_cast<float>(full_weight);
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(weight + 0.5F));
}
/// Scores further below the largest than this many temperatures weigh 0, with a margin for rounding.
inline constexpr float weightless = 23.0F;

/// An integer that orders as scores do. -0 is 0.
constexpr std::uint32_t score_rank(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);
  return (bits >> 31U) != 0 ? ~bits : bits | 0x80000000U;
}
constexpr float ranked_score(std::uint32_t rank) {
  return std::bit_cast<float>((rank >> 31U) != 0 ? rank & 0x7fffffffU : ~rank);
}

// Cuts and draws are places in a list of tokens: the first at which the running sum of weights exceeds a
// number.

/// Top-p ends where the sum, likeliest first, reaches this part of the total: where it exceeds the result.
constexpr std::uint64_t top_p_target(float top_p, std::uint64_t total) {
  const double part = double{top_p} * static_cast<double>(total);
  const auto whole = static_cast<std::uint64_t>(part);
  return static_cast<double>(whole) < part ? whole : whole - 1;
}
/// Min-p keeps weights from this one on.
constexpr std::uint32_t least_weight(float min_p) {
  const float part = min_p * static_cast<float>(full_weight);
  const auto whole = static_cast<std::uint32_t>(part);
  return static_cast<float>(whole) < part ? whole + 1 : whole;
}
/// The token drawn is the first, by id, where the sum over what is kept exceeds this; below `total`.
constexpr std::uint64_t draw_target(double uniform, std::uint64_t total) {
  return static_cast<std::uint64_t>(uniform * static_cast<double>(total));
}

}  // namespace fastserve::kernels
