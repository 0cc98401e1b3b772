#pragma once

#include <cstdint>

#include "compress/gram.hpp"
#include "compress/rounding.hpp"

namespace fastserve::compress {

/// Lessens tr(D G D^T), D = w - values, of a rounded matrix: in turn each code moves to where the error along
/// its column is least with all others as they are, and each scale likewise; `passes` times over codes and
/// scales. Coordinate descent: no step makes it worse. `damping` as in inverse_factor(). Pruned weights stay
/// 0.
void refine(compressed_matrix& matrix, const float* w, std::int64_t rows, std::int64_t cols,
            const gram& inputs, const rounding_options& options, int passes);

}  // namespace fastserve::compress
