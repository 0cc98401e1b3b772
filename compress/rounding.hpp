#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "compress/gram.hpp"
#include "kernels/quantized.hpp"

namespace fastserve::compress {

/// A matrix after compression: as integers, or as numbers where no format was asked for.
struct compressed_matrix {
  std::optional<kernels::quantized_tensor> integers;
  std::vector<float> values;  ///< what it stands for. [rows, cols]
};

/// How one matrix is rounded.
struct rounding_options {
  std::optional<kernels::quantized_format> format;  ///< nothing: pruned only
  bool clip = false;                                ///< look for the range of each group that loses least
  double damping = 0.01;                            ///< of the inverse, relative to the mean of the diagonal
  const std::vector<std::uint8_t>* keep = nullptr;  ///< keep_mask(); weights without it become 0
};

/// Every weight to its nearest value.
compressed_matrix round_nearest(const float* w, std::int64_t rows, std::int64_t cols,
                                const rounding_options& options);

/// Column after column, each rounding error made up for by the columns to come, as the inputs correlate: GPTQ
/// (arXiv 2210.17323, algorithm 1), and for pruned weights SparseGPT's update (arXiv 2301.00774, eq. 4). A
/// group's range is chosen when its first column is reached, the error of each weight counted with what it
/// costs after that (1 / U_jj^2). `factor`: inverse_factor() of the inputs.
compressed_matrix round_with_feedback(const float* w, std::int64_t rows, std::int64_t cols,
                                      const std::vector<float>& factor, const rounding_options& options);

}  // namespace fastserve::compress
