#pragma once

#include <cstdint>
#include <vector>

#include "compress/gram.hpp"
#include "kernels/quantized.hpp"

namespace fastserve::compress {

/// A matrix of those that share an input.
struct scaled_matrix {
  const float* values = nullptr;
  std::int64_t rows = 0;
};

/// One factor a column for matrices [rows, cols] that read one input: the columns are multiplied by it before
/// they are rounded, and the input divided. AWQ (arXiv 2306.00978, eq. 4 and 5): factor = (mean |x|)^a, a of
/// least output error among 0, 0.05 ... 1, judged with rounding to nearest on at most 256 rows of each
/// matrix. `shared`: columns i and j with shared[i] == shared[j] get one factor (empty: each its own). All
/// ones where nothing is better.
std::vector<float> search_scales(const std::vector<scaled_matrix>& matrices, std::int64_t cols,
                                 const gram& inputs, const kernels::quantized_format& format,
                                 const std::vector<std::int32_t>& shared = {});

}  // namespace fastserve::compress
