#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/quantized.hpp"

namespace fastserve::model {

/// An element type of GGUF files: blocks of `elements` consecutive values in `bytes` bytes.
struct ggml_type {
  std::uint32_t id;
  std::string_view name;
  std::uint32_t elements;
  std::uint32_t bytes;
  std::optional<kernels::dtype> plain;  ///< numbers as they are
  /// What its blocks unpack to without a rounding. Neither of the two: a type that we do not compute with.
  std::optional<kernels::quantized_format> quantized;
};

/// nullptr for a number that no type has.
const ggml_type* ggml_type_of(std::uint32_t id);

/// "F32, F16, BF16, Q8_0, ...": those that we compute with.
std::string_view computed_ggml_types();

/// Unpacks consecutive blocks of a type that has a quantized format: its row or rows as one run of values.
/// `codes` takes a byte a value, `scales` and, where the format has them, `offsets` one number a group.
/// Products of scales are rounded to f32 once, as ggml computes them.
void unpack_blocks(const ggml_type& type, std::span<const std::byte> blocks, std::uint8_t* codes,
                   float* scales, float* offsets);

}  // namespace fastserve::model
