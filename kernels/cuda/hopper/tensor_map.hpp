#pragma once

#include <cuda.h>

#include "kernels/cuda/hopper/hopper.hpp"

namespace fastserve::kernels::cuda::hopper {

/// Rows of 16-bit numbers as copies of boxes see them: `box_rows` by 64 columns at a time, into a panel.
CUtensorMap map_rows(const product& p, int box_rows);

/// Keys and values of a store's layer: columns of a head, tokens of a block, halves (block, layer, head, keys
/// or values) from the layer's first on.
CUtensorMap map_pages(const attention_job& job, std::int64_t blocks);

/// Rows up to which a product reads its weights once.
inline constexpr int few_rows = 128;
void launch_stream(const product& p, int multiprocessors, cudaStream_t on);
void launch_tile(const product& p, int multiprocessors, cudaStream_t on);

}  // namespace fastserve::kernels::cuda::hopper
