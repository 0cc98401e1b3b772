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
    if (job.form == weight_form::w8a8) {
      const auto k = static_cast<int>(item % w8a8_unit_columns);
      const int step = k / 64 * 2 + k % 16 / 8;
      const int lane = in_tile % 8 * 4 + k % 64 / 16;
      const int reg = k % 8 / 4 * 2 + in_tile / 8;
      job.to[tile_at(row, item / w8a8_unit_columns, job.units, 2048) + (step * warp_lanes + lane) * 16 +
             reg * 4 + k % 4] = static_cast<char>(code(item));
    } else if (job.form == weight_form::int8) {
      const auto at = place_of(in_tile, static_cast<int>(item % unit_columns));
      job.to[tile_at(row, item / unit_columns, job.units, 1024) + (at.chunk * warp_lanes + at.lane) * 16 +
             (at.step * 2 + at.reg / 2) * 4 + at.reg % 2 * 2 + at.half] = static_cast<char>(code(item));
    } else {
      const std::int64_t k = item / 2 * 4 + item % 2;  // 0 1 4 5 8 9 ...
      const auto at = place_of(in_tile, static_cast<int>(k % unit_columns));
      job.to[tile_at(row, k / unit_columns, job.units, 512) + at.lane * 16 + (at.chunk * 2 + at.step) * 4 +
             in_tile / 8 + 2 * at.half] = static_cast<char>((code(k) & 15U) | (code(k + 2) & 15U) << 4);
    }
  }
}

__global__ void __launch_bounds__(pack_threads) pack_scales(pack_scales_job job) {
  for (std::int64_t i = block_x() * pack_threads + thread_index(); i < job.rows * job.groups;
       i += grid_x() * pack_threads) {
    const std::int64_t row = job.first_row + i / job.groups;
    const float x = job.bytes ? static_cast<float>(static_cast<const std::uint8_t*>(job.from)[i])
                              : static_cast<const float*>(job.from)[i];
    const float kept = job.wide ? x : to_float(rounded_to<f16>(x));
    if (job.by_row) {
      static_cast<float*>(job.to)[row] = kept;
      continue;
    }
    const std::int64_t at =
        (row / tile_features * job.groups + i % job.groups) * tile_features + row % tile_features;
    store_element(job.to, job.wide ? dtype::f32 : dtype::f16, at, kept);
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
