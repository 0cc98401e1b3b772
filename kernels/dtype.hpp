#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fastserve::kernels {

/// Element types that tensors are stored in. Sums are always f32.
enum class dtype : std::uint8_t {
  f32,
  f16,
  bf16,
  i8,  ///< for keys and values alone, whose stores keep scales beside it
  i32,
  q8,  ///< int8 rows with a scale for every 128 columns: what products of quantized weights take. The layout
       ///< is the back end's; only kernels/ looks into it.
  f8   ///< the same of e4m3 (kernels/e4m3.hpp): what products of fp8 weights take
};

/// Whether elements lie in records of 128 columns that share a scale: see tensor.hpp.
constexpr bool in_records(dtype type) noexcept { return type == dtype::q8 || type == dtype::f8; }

/// Bytes of one element; of records, whose elements do not stand alone, see bytes_of() in tensor.hpp.
constexpr std::size_t size_of(dtype type) noexcept {
  return type == dtype::f32 || type == dtype::i32 ? 4 : type == dtype::i8 || in_records(type) ? 1 : 2;
}

/// Whether weights and activations may be of this type.
constexpr bool is_float(dtype type) noexcept {
  return type == dtype::f32 || type == dtype::f16 || type == dtype::bf16;
}

constexpr std::string_view name_of(dtype type) noexcept {
  switch (type) {
    case dtype::f32:
      return "f32";
    case dtype::f16:
      return "f16";
    case dtype::bf16:
      return "bf16";
    case dtype::i8:
      return "int8";
    case dtype::i32:
      return "i32";
    case dtype::q8:
      return "q8";
    case dtype::f8:
      return "f8";
  }
  return "?";
}

/// Converts `count` values at `from` (host memory, any alignment) to f32.
void to_f32(float* out, const void* from, dtype type, std::size_t count);

/// Rounds `count` f32 values to nearest even into `out` (host memory) as `type`.
void from_f32(void* out, dtype type, const float* from, std::size_t count);
/// The nearest that this type of at most 32 bits can hold.
float rounded_to(dtype type, float x);

}  // namespace fastserve::kernels
