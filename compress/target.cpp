#include "compress/target.hpp"

#include <algorithm>
#include <numeric>

namespace fastserve::compress {
namespace {

/// y += a x
void add_scaled(float* y, float a, const float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] += a * x[i];
}

}  // namespace

void drift::divide(const std::vector<float>& by) {
  const auto n = by.size();
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i] /= by[i / n] * by[i % n];
}

std::vector<float> least_squares_target(const float* w, std::int64_t rows, std::int64_t cols,
                                        const std::vector<float>& factor, const drift& off) {
  std::vector<float> out(w, w + rows * cols);
#pragma omp parallel for schedule(dynamic, 4)
  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<float> missing(static_cast<std::size_t>(cols));
    if (!off.residuals.empty()) std::copy_n(off.residuals.data() + r * cols, cols, missing.data());
    for (std::int64_t k = 0; k < cols; ++k)
      add_scaled(missing.data(), w[r * cols + k], off.inputs.data() + k * cols, cols);
    // the inverse is U^T U with U upper triangular
    for (std::int64_t k = 0; k < cols; ++k) {
      const auto* row = factor.data() + k * cols;
      const float along = std::inner_product(row + k, row + cols, missing.data() + k, 0.0F);
      add_scaled(out.data() + r * cols + k, along, row + k, cols - k);
    }
  }
  return out;
}

}  // namespace fastserve::compress
