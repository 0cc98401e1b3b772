#pragma once

// Rows to int8 records, and the ops whose results go nowhere else: each record is rounded while its numbers
// are in L1. A record depends on its own 128 numbers only.

#include "kernels/cpu/isa/elementwise.hpp"
#include "kernels/cpu/isa/norm.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

/// scale = max |x| / 127, or NaN or infinity if one of the numbers is.
FASTSERVE_INLINE void make_record(char* out, const float* values) {
  auto* record = reinterpret_cast<q8_record*>(out);
  i32v most = zero_i32();
  for (int i = 0; i < record_columns; i += lanes) most = max_i32(most, magnitude(load(values + i)));
  std::int32_t bits[lanes];
  store_i32(bits, most);
  std::int32_t top = bits[0];
  for (int i = 1; i < lanes; ++i) top = bits[i] > top ? bits[i] : top;
  const float largest = float_of(static_cast<std::uint32_t>(top));
  record->scale = largest * (1.0F / 127.0F);
  const f32v inverse = set1(largest > 1e-36F ? 127.0F / largest : 0.0F);
  for (int i = 0; i < record_columns; i += lanes) store_i8(record->codes + i, load(values + i) * inverse);

  std::int32_t fours[record_columns / 4];
  const i32v ones = set1_i32(0x01010101);
  for (int i = 0; i < record_columns / 4; i += lanes)
    store_i32(fours + i, dot_u4(zero_i32(), ones, load_i32(record->codes + 4 * i)));
  std::int32_t* sums = record->sums;
  for (int i = 0; i < 8; ++i)
    sums[i] = (fours[4 * i] + fours[4 * i + 1]) + (fours[4 * i + 2] + fours[4 * i + 3]);
  for (int i = 0; i < 7; ++i) sums[8 + i] = sums[2 * i] + sums[2 * i + 1];
}

/// fill(values, from, count) writes columns [from, from + count).
template <class Fill>
FASTSERVE_INLINE void make_records(void* out, std::int64_t step, std::int64_t cols, Fill fill) {
  alignas(64) float values[record_columns];
  auto* to = static_cast<char*>(out);
  for (std::int64_t from = 0; from < cols; from += record_columns, to += step) {
    std::int64_t count = cols - from;
    if (count < record_columns) {
      for (int i = 0; i < record_columns; i += lanes) store(values + i, zero());
    } else {
      count = record_columns;
    }
    fill(values, from, count);
    make_record(to, values);
  }
}

void quantize(void* out, std::int64_t step, const float* in, std::int64_t cols) {
  make_records(out, step, cols, [&](float* values, std::int64_t from, std::int64_t count) {
    convert<float, float>(values, in + from, count);
  });
}

void rms_norm_q8(void* out, std::int64_t step, const float* in, const float* gain, float epsilon,
                 std::int64_t cols) {
  const f32v factor = rms_factor(in, epsilon, cols);
  make_records(out, step, cols, [&](float* values, std::int64_t from, std::int64_t count) {
    rms_apply(values, in + from, gain + from, factor, count);
  });
}

void layer_norm_q8(void* out, std::int64_t step, const float* in, const float* gain, const float* bias,
                   float epsilon, std::int64_t cols) {
  const row_moments m = moments(in, epsilon, cols);
  make_records(out, step, cols, [&](float* values, std::int64_t from, std::int64_t count) {
    layer_apply(values, in + from, gain + from, bias == nullptr ? nullptr : bias + from, m, count);
  });
}

void activate_q8(void* out, std::int64_t step, const float* in, const float* up, gate f, std::int64_t count) {
  make_records(out, step, count, [&](float* values, std::int64_t from, std::int64_t n) {
    activate<float>(values, in + from, up == nullptr ? nullptr : up + from, f, n);
  });
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
