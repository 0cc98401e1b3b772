#pragma once

// Codes of 4 bits as bytes, for a block of panels that many tiles multiply: where the units that multiply
// also take nibbles apart (processor_habits::open_nibbles), this costs a quarter of the products of one tile,
// and next to nothing when it is done once for all of them. Integer zeros are subtracted on the way, where
// codes of 0 to 31 are as good as those of 0 to 15. Dot products stay the same exact integers, so no bit of a
// result changes.

#include "kernels/cpu/isa/gemm.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

constexpr int block_records = 4;  // of a panel, for several tiles: 16 KiB of int8 codes each stay in L1
constexpr bool opened_without_zeros = !short_sums;
constexpr std::int32_t opened_zero = 16;  // zeros are 0 to 16 (kernels/quantized.cpp)
// Folds of 16 columns have the most scales and offsets: f32 both.
constexpr std::int64_t opened_panel_bytes =
    static_cast<std::int64_t>(block_records) * panel_columns * (record_columns + record_columns / 16 * 8);

/// What the opened panels of `w` look like: bytes of 0 to 31 and no integer zeros, or all as it was but for
/// bytes.
FASTSERVE_INLINE integer_panels opened_panels(const integer_panels& w, const char* data, std::int64_t folds) {
  integer_panels to = w;
  const std::int64_t scale_bytes = panel_columns * (w.wide_scales ? 4 : 2);
  to.data = data;
  to.folds = folds;
  to.scales_at = static_cast<std::int64_t>(panel_columns) * w.columns;
  std::int64_t zero_bytes = 0;
  if (w.zero == zeros_offset) zero_bytes = scale_bytes;
  if (w.zero == zeros_integer && !opened_without_zeros) zero_bytes = panel_columns * 2;
  to.fold_bytes = to.scales_at + scale_bytes + zero_bytes;
  to.scales_step = to.fold_bytes;
  to.panel_bytes = opened_panel_bytes;
  if (w.zero == zeros_integer && opened_without_zeros) {
    to.zero = zeros_none;
    to.shift = opened_zero;
  }
  return to;
}

/// Folds [from, from + to.folds) of the panel at `panel`, to `out`.
inline void open_nibbles(char* out, const integer_panels& to, const char* panel, const integer_panels& w,
                         std::int64_t from) {
  for (std::int64_t f = 0; f < to.folds; ++f, out += to.fold_bytes) {
    const char* codes = panel + (from + f) * w.fold_bytes;
    const char* scales = panel + w.scales_at + (from + f) * w.scales_step;
    __builtin_memcpy(out + to.scales_at, scales, static_cast<std::size_t>(to.fold_bytes - to.scales_at));
    alignas(64) std::int32_t add[panel_columns] = {};
    if (w.zero == zeros_integer && opened_without_zeros) {
      alignas(64) float zero_of[panel_columns];
      const auto* zeros_at = reinterpret_cast<const f16*>(scales + panel_columns * (w.wide_scales ? 4 : 2));
      for (int c = 0; c < panel_columns; c += lanes) store(zero_of + c, load(zeros_at + c));
      for (int c = 0; c < panel_columns; ++c)
        add[c] = (opened_zero - static_cast<std::int32_t>(zero_of[c])) * 0x01010101;
    }
    constexpr int vector_bytes = lanes * 4;
    for (int k = 0; k < w.columns / 8; ++k) {
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < tile_vectors; ++v) {
        const i32v both = load_i32(codes + (k * tile_vectors + v) * vector_bytes);
        const i32v plus = load_i32(add + v * lanes);
        char* at = out + (2 * k * tile_vectors + v) * vector_bytes;
        store_i32(at, low_nibbles(both) + plus);
        store_i32(at + tile_vectors * vector_bytes, high_nibbles(both) + plus);
      }
    }
  }
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
