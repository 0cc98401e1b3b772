#pragma once

#include <cstdint>

/// Sizes of models that we believe in. Larger numbers in files are mistakes or malice; sizes made of these
/// fit 64 bits.
namespace fastserve::model {

inline constexpr std::int32_t most_layers = 4096;
inline constexpr std::int32_t most_hidden = 1 << 20;
inline constexpr std::int32_t most_intermediate = 1 << 22;
inline constexpr std::int32_t most_heads = 1 << 13;
inline constexpr std::int32_t most_head_dim = 1 << 13;
inline constexpr std::int32_t most_vocab = (1 << 22) - 1;  ///< as a device can draw from: backend::start_draw
inline constexpr std::int32_t most_positions = 1 << 28;    ///< longest sequence

}  // namespace fastserve::model
