#include "compress/target.hpp"

#include <algorithm>
#include <numeric>

#include "compress/add_scaled.hpp"

namespace fastserve::compress {
namespace {

/// What is to be made up for, (W sum (x - x') x'^T + sum (r - r') x'^T) U^T. [rows, cols]
std::vector<float> along_factor(const float* w, std::int64_t rows, std::int64_t cols,
                                const std::vector<float>& factor, const drift& off) {
  std::vector<float> out(static_cast<std::size_t>(rows * cols));
#pragma omp parallel for schedule(dynamic, 4)
  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<float> missing(static_cast<std::size_t>(cols));
    if (!off.residuals.empty()) std::copy_n(off.residuals.data() + r * cols, cols, missing.data());
    if (!off.inputs.empty())
      for (std::int64_t k = 0; k < cols; ++k)
        add_scaled(missing.data(), w[r * cols + k], off.inputs.data() + k * cols, cols);
    for (std::int64_t k = 0; k < cols; ++k) {
      const auto* row = factor.data() + k * cols;
      out[static_cast<std::size_t>(r * cols + k)] =
          std::inner_product(row + k, row + cols, missing.data() + k, 0.0F);
    }
  }
  return out;
}

}  // namespace

void drift::divide(const std::vector<float>& by) {
  const auto n = by.size();
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i] /= by[i / n] * by[i % n];
}

std::vector<float> least_squares_target(const float* w, std::int64_t rows, std::int64_t cols,
                                        const std::vector<float>& factor,
                                        const std::array<drift, 2>& halves) {
  const auto first = along_factor(w, rows, cols, factor, halves[0]);
  const auto second = along_factor(w, rows, cols, factor, halves[1]);
  double apart = 0;
  double together = 0;
  for (std::size_t i = 0; i < first.size(); ++i) {
    const double a = first[i];
    const double b = second[i];
    apart += (a - b) * (a - b);
    together += (a + b) * (a + b);
  }
  std::vector<float> out(w, w + rows * cols);
  if (!(together > apart)) return out;
  const auto trust = static_cast<float>(1.0 - apart / together);
#pragma omp parallel for schedule(dynamic, 4)
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < cols; ++k) {
      const auto i = static_cast<std::size_t>(r * cols + k);
      add_scaled(out.data() + r * cols + k, trust * (first[i] + second[i]), factor.data() + k * cols + k,
                 cols - k);
    }
  return out;
}

}  // namespace fastserve::compress
