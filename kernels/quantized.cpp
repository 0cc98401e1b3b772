#include "kernels/quantized.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <stdexcept>

#include "kernels/e4m3.hpp"

namespace fastserve::kernels {
namespace {

std::size_t count_of(std::int64_t a, std::int64_t b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

std::uint8_t code_of(double x, const quantized_format& format) {
  if (!(x == x)) x = 0;  // the scale tells that the group is not a number
  if (is_fp8(format)) return to_e4m3(x);
  const double nearest = std::nearbyint(x);
  return static_cast<std::uint8_t>(
      static_cast<int>(std::clamp(nearest, double(format.lowest()), double(format.highest()))));
}

/// One group. Divides in double: the nearest code is the nearest code.
void quantize_group(const quantized_format& format, const float* x, std::int64_t count, std::uint8_t* codes,
                    float* scale, std::uint8_t* zero, float* offset) {
  float low = x[0];
  float high = x[0];
  bool number = true;
  for (std::int64_t i = 0; i < count; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    number = number && std::isfinite(x[i]);
  }
  const auto steps = static_cast<float>((1 << format.bits) - 1);
  float base = 0;
  switch (format.zero) {
    case zero_kind::none:
      *scale = is_fp8(format)     ? std::max(high, -low) / largest_e4m3
               : format.bits == 8 ? std::max(high, -low) / 127.0F
                                  : (high > -low ? high : low) / -8.0F;
      break;
    case zero_kind::integer:
      low = std::min(low, 0.0F);
      high = std::max(high, 0.0F);
      *scale = (high - low) / steps;
      break;
    case zero_kind::offset:
      *scale = (high - low) / steps;
      base = *offset = rounded_to(format.scale, low);
      break;
  }
  *scale = number ? rounded_to(format.scale, *scale) : std::nanf("");
  const double inverse = *scale == 0 || !number ? 0 : 1.0 / *scale;
  double shift = 0;
  if (format.zero == zero_kind::integer) {
    *zero = code_of(-low * inverse, format);
    shift = *zero;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    codes[i] = code_of((double{x[i]} - base) * inverse + shift, format);
  }
}

}  // namespace

double quantized_format::bits_per_weight(std::int64_t cols) const {
  const auto scale_bits = 8.0 * static_cast<double>(size_of(scale));
  const double per_group = scale_bits + (zero == zero_kind::integer  ? 8
                                         : zero == zero_kind::offset ? scale_bits
                                                                     : 0);
  return bits + per_group * static_cast<double>(groups(cols)) / static_cast<double>(cols);
}

std::string to_string(const quantized_format& format) {
  const std::string group = format.group == 0 ? "whole row" : "group " + std::to_string(format.group);
  const char* zero = format.zero == zero_kind::integer  ? ", zero points"
                     : format.zero == zero_kind::offset ? ", offsets"
                                                        : "";
  return (is_fp8(format) ? "fp8" : "int" + std::to_string(format.bits)) + ", " + group + zero + ", " +
         std::string(name_of(format.scale)) + " scales";
}

void check(const quantized_format& f) {
  const auto refuse = [](const std::string& what) {
    throw std::invalid_argument("quantized weight: " + what);
  };
  if (f.bits != 8 && f.bits != 4) refuse(std::to_string(f.bits) + " bits, expected 8 or 4");
  if (f.group != 0 && f.group != 16 && f.group != 32 && f.group != 64 && f.group != 128)
    refuse("groups of " + std::to_string(f.group) + ", expected 16, 32, 64, 128 or 0 for the whole row");
  if (f.scale != dtype::f16 && f.scale != dtype::f32)
    refuse("scales of type " + std::string(name_of(f.scale)) + ", expected f16 or f32");
  if (is_fp8(f) && f != fp8_rows)
    refuse("fp8 of " + std::to_string(f.bits) + " bits in groups of " + std::to_string(f.group) + " with " +
           std::string(name_of(f.scale)) +
           " scales, expected 8 bits, an f32 scale for the whole row, no zeros");
}

quantized_tensor::quantized_tensor(const quantized_format& f, std::int64_t row_count, std::int64_t col_count)
    : format{f}, rows{row_count}, cols{col_count}, codes(count_of(rows, cols)) {
  const auto groups = count_of(rows, format.groups(cols));
  scales.resize(groups);
  if (format.zero == zero_kind::integer) zeros.resize(groups);
  if (format.zero == zero_kind::offset) offsets.resize(groups);
}

quantized_matrix quantized_matrix::row_range(std::int64_t first, std::int64_t count) const {
  assert(first >= 0 && count >= 0 && first + count <= rows);
  auto part = *this;
  part.rows = count;
  part.codes += first * cols;
  part.scales += first * groups();
  if (zeros != nullptr) part.zeros += first * groups();
  if (offsets != nullptr) part.offsets += first * groups();
  return part;
}

void check(const quantized_matrix& m) {
  check(m.format);
  const auto refuse = [&](const std::string& what) {
    throw std::invalid_argument("quantized weight of " + std::to_string(m.rows) + " x " +
                                std::to_string(m.cols) + ": " + what);
  };
  if (m.rows <= 0 || m.cols <= 0) refuse("it has no elements");
  if (m.codes == nullptr || m.scales == nullptr) refuse("it has no codes or no scales");
  if (m.format.zero == zero_kind::integer && m.zeros == nullptr) refuse("it has no zero points");
  if (m.format.zero == zero_kind::offset && m.offsets == nullptr) refuse("it has no offsets");
  if (m.format.bits == 8) return;
  const bool symmetric = m.format.zero == zero_kind::none;
  const auto count = count_of(m.rows, m.cols);
  // -8..7 as bytes are 0..7 and 248..255: adding 8 brings both kinds into 0..15.
  const int shift = symmetric ? 8 : 0;
  unsigned seen = 0;
  for (std::size_t i = 0; i < count; ++i) seen |= static_cast<std::uint8_t>(m.codes[i] + shift);
  if (seen > 15) refuse("a code is outside of 4 bits");
  if (m.format.zero != zero_kind::integer) return;
  const auto groups = count_of(m.rows, m.groups());
  if (std::any_of(m.zeros, m.zeros + groups, [](int z) { return z > 16; })) refuse("a zero point exceeds 16");
}

void dequantize_row(float* out, const quantized_matrix& m, std::int64_t row) {
  const std::int64_t group = m.format.group_columns(m.cols);
  for (std::int64_t k = 0; k < m.cols; ++k) {
    const auto g = static_cast<std::size_t>(row * m.groups() + k / group);
    const float scale = rounded_to(m.format.scale, m.scales[g]);
    if (is_fp8(m.format)) {
      out[k] = scale * e4m3_values[m.codes[row * m.cols + k]];
      continue;
    }
    const int zero = m.format.zero == zero_kind::integer ? m.zeros[g] : 0;
    const float offset = m.format.zero == zero_kind::offset ? rounded_to(m.format.scale, m.offsets[g]) : 0.0F;
    out[k] = scale * static_cast<float>(m.code(row, k) - zero) + offset;
  }
}

void quantize_row(const quantized_format& format, const float* values, std::int64_t count,
                  std::uint8_t* codes, float* scales, std::uint8_t* zeros, float* offsets) {
  const std::int64_t group = format.group_columns(count);
  for (std::int64_t g = 0, k = 0; k < count; ++g, k += group) {
    quantize_group(format, values + k, std::min(group, count - k), codes + k, scales + g,
                   zeros == nullptr ? nullptr : zeros + g, offsets == nullptr ? nullptr : offsets + g);
  }
}

quantized_tensor quantize_nearest(const quantized_format& format, const float* values, std::int64_t rows,
                                  std::int64_t cols) {
  check(format);
  quantized_tensor out{format, rows, cols};
  const std::int64_t groups = format.groups(cols);
  for (std::int64_t r = 0; r < rows; ++r) {
    quantize_row(format, values + r * cols, cols, out.codes.data() + r * cols, out.scales.data() + r * groups,
                 out.zeros.empty() ? nullptr : out.zeros.data() + r * groups,
                 out.offsets.empty() ? nullptr : out.offsets.data() + r * groups);
  }
  return out;
}

}  // namespace fastserve::kernels
