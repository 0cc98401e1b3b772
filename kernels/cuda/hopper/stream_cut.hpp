#pragma once

#include "kernels/cuda/hopper/hopper.hpp"

namespace fastserve::kernels::cuda::hopper {

/// Rows up to which a product reads its weights once.
inline constexpr int few_rows = 128;

/// How a product of few rows is spread over the device.
struct stream_cut {
  int splits;    ///< blocks that share a panel
  int resident;  ///< blocks that a multiprocessor has at a time, which share its memory
  int rows;      ///< that a block has room for
};
stream_cut cut_stream(const product& p, int multiprocessors);

}  // namespace fastserve::kernels::cuda::hopper
