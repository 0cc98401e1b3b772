#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/pack.hpp"

// Weights into tiles. Runs once at load: a thread to an element, no more thought than that.

namespace fastserve::kernels::cuda {
namespace {

constexpr int pack_threads = 256;

FASTSERVE_DEVICE std::int64_t tile_at(std::int64_t row, std::int64_t unit, std::int64_t units, int bytes) {
  return (row / tile_features * units + unit) * bytes;
}

/// Where in a tile of 16-bit numbers, or of codes, column k of a unit stands: lane, register and half of the
/// operand.
struct place {
  int chunk, step, lane, reg, half;
};
FASTSERVE_DEVICE place place_of(int row, int k) {
  const int t = k % 32 / 8;
  const int e = k % 4;
  return {k / 32, k % 8 / 4, row % 8 * 4 + t, e / 2 * 2 + row / 8, e % 2};
}
/// The same where k is as the matrix unit has it.
FASTSERVE_DEVICE place natural_place_of(int row, int k) {
  return {k / 32, k % 32 / 16, row % 8 * 4 + k % 8 / 2, k % 16 / 8 * 2 + row / 8, k % 2};
}
/// Where a row's record of a unit begins.
FASTSERVE_DEVICE std::int64_t record_at(std::int64_t row, std::int64_t record, std::int64_t records,
                                        int bytes) {
  return (row / (panel_tiles * tile_features) * records + record) * bytes;
}
/// Where the tile of a row's codes of a unit begins.
FASTSERVE_DEVICE std::int64_t codes_at(const pack_codes_job& job, std::int64_t row, std::int64_t unit) {
  const int bytes = tile_bytes(job.form);
  if (!job.panels) return tile_at(row, unit, job.units, bytes);
  constexpr int units = code_record::units;
  return record_at(row, unit / units, (job.units + units - 1) / units, job.record.bytes) +
         (unit % units * panel_tiles + row / tile_features % panel_tiles) * bytes;
}

__global__ void __launch_bounds__(pack_threads) pack_numbers(pack_numbers_job job) {
  for (std::int64_t i = block_x() * pack_threads + thread_index(); i < job.outer * job.inner;
       i += grid_x() * pack_threads) {
    const std::int64_t row = job.first_row + (job.transposed ? i % job.inner : i / job.inner);
    const std::int64_t k = job.first_column + (job.transposed ? i / job.inner : i % job.inner);
    const float x = load_element(job.from, job.type, i);
    if (job.form == weight_form::f32) {
      reinterpret_cast<float*>(job.to)[row * job.units * unit_columns + k] = x;
      continue;
    }
    const std::uint16_t bits =
        job.form == weight_form::bf16 ? rounded_to<bf16>(x).bits : rounded_to<f16>(x).bits;
    if (job.panels) {
      constexpr int features = panel_tiles * tile_features;
      auto* panel = reinterpret_cast<std::uint16_t*>(job.to) +
                    (row / features * job.units + k / unit_columns) * features * unit_columns;
      panel[row % features * unit_columns + (k % unit_columns / 8 ^ row % 8) * 8 + k % 8] = bits;
      continue;
    }
    const auto at = place_of(static_cast<int>(row % tile_features), static_cast<int>(k % unit_columns));
    auto* tile = reinterpret_cast<std::uint16_t*>(job.to + tile_at(row, k / unit_columns, job.units, 2048));
    tile[((at.chunk * 2 + at.step) * warp_lanes + at.lane) * 8 + at.reg * 2 + at.half] = bits;
  }
}

/// A thread to a code, for int4 to the two codes of a byte: columns k and k + 2.
__global__ void __launch_bounds__(pack_threads) pack_codes(pack_codes_job job) {
  const std::int64_t row_items = job.form == weight_form::int4   ? job.units * unit_columns / 2
                                 : job.form == weight_form::int8 ? job.units * unit_columns
                                                                 : job.cols;
  for (std::int64_t i = block_x() * pack_threads + thread_index(); i < job.rows * row_items;
       i += grid_x() * pack_threads) {
    const std::int64_t source = i / row_items;
    const std::int64_t row = job.first_row + source;
    const std::int64_t item = i % row_items;
    const auto code = [&](std::int64_t k) -> std::uint32_t {
      return k < job.cols ? static_cast<std::uint32_t>(job.from[source * job.cols + k] + job.shift) & 0xffU
                          : 0U;
    };
    const auto in_tile = static_cast<int>(row % tile_features);
    if (has_records(job.form) && job.panels) {
      constexpr int features = panel_tiles * tile_features;
      const std::int64_t k = item % record_columns;
      char* panel = job.to + (row / features * job.units + item / record_columns) * features * record_columns;
      panel[row % features * record_columns + (k / 16 ^ row % 8) * 16 + k % 16] =
          static_cast<char>(code(item));
    } else if (job.form == weight_form::w8a8) {
      const auto k = static_cast<int>(item % record_columns);
      const int step = k / 64 * 2 + k % 16 / 8;
      const int lane = in_tile % 8 * 4 + k % 64 / 16;
      const int reg = k % 8 / 4 * 2 + in_tile / 8;
      job.to[tile_at(row, item / record_columns, job.units, 2048) + (step * warp_lanes + lane) * 16 +
             reg * 4 + k % 4] = static_cast<char>(code(item));
    } else if (job.form == weight_form::int8) {
      const auto k = static_cast<int>(item % unit_columns);
      const auto at = job.panels ? natural_place_of(in_tile, k) : place_of(in_tile, k);
      job.to[codes_at(job, row, item / unit_columns) + (at.chunk * warp_lanes + at.lane) * 16 +
             (at.step * 2 + at.reg / 2) * 4 + at.reg % 2 * 2 + at.half] = static_cast<char>(code(item));
    } else {
      // The two codes of a byte are of registers r and r + 2: two columns apart, or eight.
      const int apart = job.panels ? 8 : 2;
      const std::int64_t k = item / apart * apart * 2 + item % apart;
      const auto in_unit = static_cast<int>(k % unit_columns);
      const auto at = job.panels ? natural_place_of(in_tile, in_unit) : place_of(in_tile, in_unit);
      job.to[codes_at(job, row, k / unit_columns) + at.lane * 16 + (at.chunk * 2 + at.step) * 4 +
             in_tile / 8 + 2 * at.half] = static_cast<char>((code(k) & 15U) | (code(k + apart) & 15U) << 4);
    }
  }
}

__global__ void __launch_bounds__(pack_threads) pack_scales(pack_scales_job job) {
  for (std::int64_t i = block_x() * pack_threads + thread_index(); i < job.rows * job.groups;
       i += grid_x() * pack_threads) {
    const std::int64_t row = job.first_row + i / job.groups;
    const std::int64_t group = i % job.groups;
    const std::uint32_t zero = job.bytes ? static_cast<const std::uint8_t*>(job.from)[i] : 0U;
    const float x = job.bytes ? 0.0F : static_cast<const float*>(job.from)[i];
    const float kept = job.wide ? x : to_float(rounded_to<f16>(x));
    if (job.by_row) {
      static_cast<float*>(job.to)[row] = kept;
      continue;
    }
    const auto bits = static_cast<std::uint16_t>(job.bytes ? zero : rounded_to<bf16>(kept).bits);
    if (!job.panels) {
      static_cast<std::uint16_t*>(
          job.to)[(row / tile_features * job.groups + group) * tile_features + row % tile_features] = bits;
      continue;
    }
    const std::int64_t first = group * job.group_columns;
    const std::int64_t column = first % code_record::columns;
    const auto tile = static_cast<int>(row / tile_features % panel_tiles);
    const std::int64_t at =
        (column << job.record.groups_log2) / code_record::columns * code_record::group_bytes +
        ((tile * 8 + row % 8) * 2 + row % tile_features / 8) * 2;
    const std::int64_t end = first + job.group_columns;
    for (std::int64_t r = first / code_record::columns; r < job.records && r * code_record::columns < end;
         ++r)
      *reinterpret_cast<std::uint16_t*>(static_cast<char*>(job.to) +
                                        record_at(row, r, job.records, job.record.bytes) + at) = bits;
  }
}

std::int64_t blocks_for(std::int64_t items) {
  const std::int64_t blocks = (items + pack_threads - 1) / pack_threads;
  return blocks < 65536 ? blocks : 65536;
}

}  // namespace

void launch_pack_numbers(const pack_numbers_job& job, cudaStream_t on) {
  launch("packing numbers", pack_numbers, {blocks_for(job.outer * job.inner), 1, pack_threads, 0, on}, job);
}
void launch_pack_codes(const pack_codes_job& job, cudaStream_t on) {
  launch("packing codes", pack_codes,
         {blocks_for(job.rows * job.units * columns_of(job.form)), 1, pack_threads, 0, on}, job);
}
void launch_pack_scales(const pack_scales_job& job, cudaStream_t on) {
  launch("packing scales", pack_scales, {blocks_for(job.rows * job.groups), 1, pack_threads, 0, on}, job);
}

}  // namespace fastserve::kernels::cuda
