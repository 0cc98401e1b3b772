#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/dtype.hpp"

namespace fastserve::kernels {

/// What a group of a grouped-integer weight has besides its scale s. With a code q the weight's value is
enum class zero_kind : std::uint8_t {
  none,     ///< s q, codes signed
  integer,  ///< s (q - z), codes unsigned, z an integer: AWQ, GPTQ
  offset    ///< s q + o, codes unsigned, o a number as wide as the scale: Q4_K, Q4_1 (o = -min)
};

/// What the codes are: integers, or numbers of 8 bits (kernels/e4m3.hpp) with one scale a row.
enum class code_kind : std::uint8_t { integer, e4m3 };

/// Grouped integers: every row of a weight is cut into groups of `group` input features that share a scale.
/// Or e4m3, of 8 bits, the whole row, no zeros and f32 scales alone: `fp8_rows`.
struct quantized_format {
  int bits = 8;             ///< 8 or 4
  std::int32_t group = 32;  ///< 16, 32, 64, 128, or 0 = the whole row. A row's last group may be shorter.
  zero_kind zero = zero_kind::none;
  dtype scale = dtype::f16;  ///< f16 or f32: how packed weights keep scales and offsets
  code_kind codes = code_kind::integer;

  /// Signed codes when symmetric, unsigned otherwise.
  int lowest() const { return zero == zero_kind::none ? -(1 << (bits - 1)) : 0; }
  int highest() const { return lowest() + (1 << bits) - 1; }
  std::int64_t group_columns(std::int64_t cols) const { return group == 0 ? cols : group; }
  std::int64_t groups(std::int64_t cols) const {
    return (cols + group_columns(cols) - 1) / group_columns(cols);
  }
  /// Bits that a weight of `cols` input features takes, scales and zeros included.
  double bits_per_weight(std::int64_t cols) const;
  friend bool operator==(const quantized_format&, const quantized_format&) = default;
};

inline constexpr quantized_format fp8_rows{8, 0, zero_kind::none, dtype::f32, code_kind::e4m3};
constexpr bool is_fp8(const quantized_format& format) { return format.codes == code_kind::e4m3; }

/// "int4, group 32, f16 scales", for tables.
std::string to_string(const quantized_format& format);

/// Throws std::invalid_argument with one line when bits, group or scale type are none of the above, or e4m3
/// has others than fp8_rows.
void check(const quantized_format& format);

/// A quantized weight in host memory, unpacked: the form that loaders fill and back ends pack. All arrays are
/// row-major; a row of a stacked or sliced weight may start anywhere.
///
/// What is published in other forms fits without a second rounding:
///   Q8_0       8 bits, group 32, f16       scale d, code q
///   Q4_0       4 bits, group 32, f16       scale d, code q - 8
///   Q4_K       4 bits, group 32, offset, f32: scale d sc, code q, offset -dmin m (products exact in f32)
///   Q6_K       8 bits, group 16, f32       scale d sc, code q - 32
///   AWQ, GPTQ  4 bits, their group, integer, f16 (or f32 for bf16 scales): scale, code, zero
///   W8A8       8 bits, whole row, f32      scale, code
///   FP8        fp8_rows                    scale, code (per tensor: the same scale for all rows)
struct quantized_matrix {
  quantized_format format;
  std::int64_t rows = 0;                ///< output features
  std::int64_t cols = 0;                ///< input features
  const std::uint8_t* codes = nullptr;  ///< [rows, cols], a byte each; signed integers in two's complement
  const float* scales = nullptr;        ///< [rows, groups]; rounded to format.scale when packed
  const std::uint8_t* zeros = nullptr;  ///< [rows, groups] for zero_kind::integer, up to 2^bits
  const float* offsets = nullptr;       ///< [rows, groups] for zero_kind::offset

  std::int64_t groups() const { return format.groups(cols); }
  /// Of integers.
  int code(std::int64_t row, std::int64_t col) const {
    const auto c = codes[row * cols + col];
    return format.zero == zero_kind::none ? static_cast<std::int8_t>(c) : c;
  }
  /// `count` rows from `first` on.
  quantized_matrix row_range(std::int64_t first, std::int64_t count) const;
};

/// A quantized_matrix that owns its arrays.
struct quantized_tensor {
  quantized_format format;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
  std::vector<float> offsets;

  quantized_tensor() = default;
  /// All codes, scales, zeros and offsets 0.
  quantized_tensor(const quantized_format& f, std::int64_t row_count, std::int64_t col_count);
  quantized_matrix view() const {
    return {format,
            rows,
            cols,
            codes.data(),
            scales.data(),
            zeros.empty() ? nullptr : zeros.data(),
            offsets.empty() ? nullptr : offsets.data()};
  }
};

/// Throws std::invalid_argument with one line when the matrix is not what its format says: no codes, codes or
/// zeros out of range, missing arrays.
void check(const quantized_matrix& m);

/// Row `row` of the matrix as numbers, with scales and offsets as the packed form keeps them. Slow and
/// obvious: what products are tested against.
void dequantize_row(float* out, const quantized_matrix& m, std::int64_t row);

/// One row of `count` values rounded to the nearest code. Symmetric 8 bits: scale = max |x| / 127; e4m3: max
/// |x| / 448, ties to even. Symmetric 4 bits: the value of largest magnitude becomes -8, so that all 16 codes
/// are of use. Integer zero: scale = (max - min) / (2^bits - 1) over values and 0. Offset: the same without
/// 0. Scales (and offsets) are rounded to format.scale first and codes chosen for what they then are. `zeros`
/// and `offsets` may be null where the format has none.
void quantize_row(const quantized_format& format, const float* values, std::int64_t count,
                  std::uint8_t* codes, float* scales, std::uint8_t* zeros, float* offsets);

/// All rows.
quantized_tensor quantize_nearest(const quantized_format& format, const float* values, std::int64_t rows,
                                  std::int64_t cols);

}  // namespace fastserve::kernels
