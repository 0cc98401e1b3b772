#pragma once

#include <cuda.h>

#include "kernels/cuda/hopper/hopper.hpp"

namespace fastserve::kernels::cuda::hopper {

/// Rows of 16-bit numbers as copies of boxes see them: `box_rows` by 64 columns at a time, into a panel.
CUtensorMap map_rows(const product& p, int box_rows);

/// Rows of records: codes of `box_rows` by a unit at a time, into a panel, and the last 16 bytes of the
/// records, which end in the scale.
struct record_maps {
  CUtensorMap codes, scales;
};
record_maps map_records(const product& p, int box_rows);

/// Keys and values of a store's layer: columns of a head, tokens of a block, halves (block, layer, head, keys
/// or values) from the layer's first on.
CUtensorMap map_pages(const attention_job& job, std::int64_t blocks);

void launch_stream(const product& p, int multiprocessors, cudaStream_t on);
void launch_stream_codes(const product& p, int multiprocessors, cudaStream_t on);
void launch_tile(const product& p, int multiprocessors, cudaStream_t on);
/// A single row of numbers, which the block holds as a whole: whether it has room for it.
constexpr std::int64_t most_row_units = 512;
constexpr bool is_one_row(const product& p) {
  return p.rows == 1 && (p.form == weight_form::bf16 || p.form == weight_form::f16) &&
         p.units <= most_row_units && p.unit_bytes == unit_row_bytes;
}
constexpr std::int64_t most_normed_columns = 8192;
void launch_one_row(const product& p, int multiprocessors, cudaStream_t on);
/// Larger tiles, for sums of one segment: whether they take the product, how many blocks' worth it is.
constexpr std::int64_t large_tile_rows = 256;
constexpr std::int64_t large_tile_features = 256;  ///< of both blocks of a cluster
constexpr bool takes_large_tiles(const product& p) {
  return p.panel_segment_units >= p.units && p.rows >= large_tile_rows;
}
constexpr std::int64_t large_tile_blocks(const product& p) {
  return 2 * ((p.features + large_tile_features - 1) / large_tile_features) *
         ((p.rows + large_tile_rows - 1) / large_tile_rows);
}
void launch_large_tile(const product& p, int multiprocessors, cudaStream_t on);
void launch_w8a8(const product& p, int multiprocessors, cudaStream_t on);
void launch_fp8(const product& p, int multiprocessors, cudaStream_t on);
/// Grouped integers as panels of bf16: `panels` of them, `p.weights` being the first one's records.
void launch_open_codes(const product& p, std::int64_t panels, char* to, cudaStream_t on);

}  // namespace fastserve::kernels::cuda::hopper
