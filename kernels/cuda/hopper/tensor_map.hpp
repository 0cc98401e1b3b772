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
void launch_w8a8(const product& p, int multiprocessors, cudaStream_t on);
/// Grouped integers as panels of bf16: `panels` of them, `p.weights` being the first one's records.
void launch_open_codes(const product& p, std::int64_t panels, char* to, cudaStream_t on);

}  // namespace fastserve::kernels::cuda::hopper
