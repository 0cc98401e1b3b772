#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/backend.hpp"
#include "kernels/tensor.hpp"

// Products of rows by packed weights. out[r, n] = in[r, :] . w[n, :]. The order of operations of an element
// is fixed by the weight's shape and format alone, whichever kernel computes it and however many rows there
// are:
//   - k is cut into units of 64 (W8A8, fp8: 128, one record of the input) and the units into `segments` runs
//     of equal length (the last may be shorter). Within a segment one accumulator takes the mma of every 16
//     (W8A8: 32) of k in rising order. fp8: of every 32, from zero for each unit; the unit's sum times the
//     record's scale is then added as a float.
//   - The segments' sums are added in rising order, then bias, then the residual.
// Weights are the first operand of the mma (16 output features), rows the second (8 rows). A tile is 16
// features by one unit; its elements lie so that a lane's fragments are 16 bytes of its own, and k is
// permuted within 32 so that a lane's 16 bytes of a row are one piece, too.
// For Hopper's matrix unit 16-bit numbers, W8A8 and fp8 codes lie in panels instead (hopper/): 64 features by
// one unit, a feature's 128 bytes one after another, its eight pieces of 16 bytes exchanged: piece i stands
// at i ^ (feature % 8). Segments of 16-bit numbers are `panel_segments` there, of an even number of units,
// and one where there are so many features that blocks need not share them. Grouped integers are opened to
// bf16 in registers: an element is bf16(scale * (code - zero) + offset), rounded once, of scales and offsets
// that are bf16 themselves. From there on they are bf16 weights. In panels they are records (code_record).

namespace fastserve::kernels::cuda {

inline constexpr int tile_features = 16;
inline constexpr int panel_tiles = 4;
inline constexpr int unit_columns = 64;
inline constexpr int record_columns = 128;
inline constexpr int segments = 8;
inline constexpr int panel_segments = 4;
/// Bytes of one unit of one row of 16-bit input, or of the codes of a record.
inline constexpr int unit_row_bytes = 128;

/// Rows of gate and of up that gated products have in turn: half of a tile, so that a thread has both.
inline constexpr int gated_turn = 8;
/// Activations that gated products end in.
constexpr bool is_logistic(activation f) { return f == activation::silu || f == activation::gelu_tanh; }

enum class weight_form : std::uint8_t { bf16, f16, f32, int8, int4, w8a8, fp8 };

/// Whether the input is in records, of int8 or of e4m3. fp8 is for panels alone.
constexpr bool has_records(weight_form form) { return form == weight_form::w8a8 || form == weight_form::fp8; }

/// Columns of a unit.
constexpr int columns_of(weight_form form) { return has_records(form) ? record_columns : unit_columns; }
/// Bytes of a tile.
constexpr int tile_bytes(weight_form form) {
  return form == weight_form::int4   ? 512
         : form == weight_form::int8 ? 1024
         : form == weight_form::f32  ? 4096
                                     : 2048;
}

/// Grouped integers in panels: a record has 64 features by two units of columns. First come codes,
/// [unit][16 features][lane][16 bytes, or twice 16], a lane's being those of its fragments of k as it is;
/// then scales, then zeros or offsets if the format has any, both [group][16 features][8]{feature, feature +
/// 8}, 16 bits each. A group that is wider than a record stands in all of its records.
struct code_record {
  static constexpr int units = 2;
  static constexpr int columns = units * unit_columns;
  static constexpr int group_bytes = panel_tiles * tile_features * 2;

  int bytes = 0;
  int groups_log2 = 0;  ///< groups in a record: 1 to 8

  code_record() = default;
  code_record(weight_form form, const quantized_format& format) {
    while (format.group != 0 && format.group << groups_log2 < columns) ++groups_log2;
    bytes = numbers_at(form) + (format.zero == zero_kind::none ? 1 : 2) * all_groups_bytes();
  }
  /// Where scales begin.
  static constexpr int numbers_at(weight_form form) { return units * panel_tiles * tile_bytes(form); }
  constexpr int all_groups_bytes() const { return group_bytes << groups_log2; }
};
constexpr bool is_grouped(weight_form form) { return form == weight_form::int8 || form == weight_form::int4; }

/// One product, or one section of a weight whose parts differ in format.
struct product {
  weight_form form;
  bool panels;
  const char*
      weights;        ///< [tile, or panel, of features][unit, or record][bytes]; f32: [features][units * 64]
  const char* input;  ///< 16 byte aligned, zero beyond the last column up to whole units
  std::int64_t row_bytes;   ///< from one row of the input to the next
  std::int64_t unit_bytes;  ///< from one unit of a row to the next
  float* out;               ///< [rows, features]
  std::int64_t out_stride;
  const float* bias;  ///< [features] or null
  bool accumulate;
  std::int64_t rows;
  std::int64_t features;
  std::int64_t units;
  std::int64_t panel_segment_units;  ///< in panels: units of all segments but the last
  // Formats with groups: scales (bf16), zeros (16 bits) or offsets (bf16), [tile of features][group][16]; in
  // panels they stand with the codes. W8A8, fp8: scales f32 [features].
  const void* scales;
  const void* zeros;  ///< of zero_kind::integer or offset
  std::int64_t groups;
  int group_shift;  ///< a group has 2^this columns; 30 where the whole row is one
  zero_kind zero;
  code_record record;  ///< of integers in panels
  // Gated, in panels: rows of gate and of up in turn by eight; f(gate) * up takes out's place.
  bool gated;
  activation f;
  void* active;  ///< [rows, features / 2]
  std::int64_t active_stride;
  dtype active_type;
  // Normed: the input is the norm of this f32 row (hopper::norms), `input` is not there.
  const float* unnormed;
  const float* gain;
  float epsilon;
  std::int64_t norm_columns;
  // What hopper::scratch_of asks for.
  std::uint32_t* arrivals;
  float* partial_sums;
  char* opened;

  std::int64_t tiles() const { return (features + tile_features - 1) / tile_features; }
};

/// Units of all segments but the last.
constexpr std::int64_t segment_units(std::int64_t units) { return (units + segments - 1) / segments; }
/// The same in panels: whole records. All units where panels are enough to give every multiprocessor one of
/// its own, and several where codes are opened; a large tile then has room for its sums but once.
constexpr std::int64_t panel_segment_units(weight_form form, std::int64_t features, std::int64_t units) {
  constexpr std::int64_t shared_features = 66 * panel_tiles * tile_features;
  if (features > (is_grouped(form) ? 3 : 1) * shared_features) return units;
  constexpr int whole = panel_segments * code_record::units;
  return (units + whole - 1) / whole * code_record::units;
}

/// `multiprocessors`: of the device, for choosing a kernel. The choice never changes bits.
void launch_product(const product& p, int multiprocessors, cudaStream_t on);
void launch_stream_float(const product& p, cudaStream_t on);
void launch_stream_grouped(const product& p, cudaStream_t on);
void launch_stream_w8a8(const product& p, cudaStream_t on);
void launch_tile_float(const product& p, cudaStream_t on);
void launch_tile_integers(const product& p, cudaStream_t on);
void launch_product_f32(const product& p, cudaStream_t on);

}  // namespace fastserve::kernels::cuda
