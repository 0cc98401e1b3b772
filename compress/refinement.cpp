#include "compress/refinement.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace fastserve::compress {
namespace {

using kernels::quantized_tensor;
using kernels::zero_kind;

/// One row: its error, and what the error does to the output along each column.
class row_refiner {
 public:
  row_refiner(quantized_tensor& q, float* values, const float* w, const std::uint8_t* keep, std::int64_t row,
              const std::vector<float>& g)
      : q_{q},
        values_{values},
        keep_{keep},
        row_{row},
        cols_{q.cols},
        g_{g},
        slope_(static_cast<std::size_t>(q.cols)) {
    for (std::int64_t c = 0; c < cols_; ++c) add(c, w[c] - values[c]);
  }

  void move_codes() {
    const auto group = q_.format.group_columns(cols_);
    for (std::int64_t c = 0; c < cols_; ++c) {
      if (keep_ != nullptr && keep_[c] == 0) continue;
      const auto at = place(c / group);
      const float scale = q_.scales[at];
      const double curve = g_[index(c, c)];
      if (scale == 0 || !(curve > 0)) continue;
      const int zero = q_.zeros.empty() ? 0 : q_.zeros[at];
      const auto target =
          std::nearbyint((values_[c] + slope_[static_cast<std::size_t>(c)] / curve) / scale) + zero;
      const auto code =
          static_cast<int>(std::clamp(target, double(q_.format.lowest()), double(q_.format.highest())));
      const float value = scale * static_cast<float>(code - zero);
      if (value == values_[c]) continue;
      q_.codes[static_cast<std::size_t>(row_ * cols_ + c)] = static_cast<std::uint8_t>(code);
      change(c, value);
    }
  }

  void move_scales() {
    const auto group = q_.format.group_columns(cols_);
    const auto view = q_.view();
    std::vector<float> steps(static_cast<std::size_t>(group));
    for (std::int64_t begin = 0; begin < cols_; begin += group) {
      const auto count = std::min(group, cols_ - begin);
      const auto at = place(begin / group);
      const int zero = q_.zeros.empty() ? 0 : q_.zeros[at];
      double along = 0;
      double curve = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        steps[static_cast<std::size_t>(i)] = static_cast<float>(view.code(row_, begin + i) - zero);
        along += double{steps[static_cast<std::size_t>(i)]} * slope_[static_cast<std::size_t>(begin + i)];
      }
      for (std::int64_t i = 0; i < count; ++i)
        for (std::int64_t j = 0; j < count; ++j)
          curve += double{steps[static_cast<std::size_t>(i)]} * steps[static_cast<std::size_t>(j)] *
                   g_[index(begin + i, begin + j)];
      if (!(curve > 0)) continue;
      const float before = q_.scales[at];
      const float after = kernels::rounded_to(q_.format.scale, static_cast<float>(before + along / curve));
      // rounding the scale may overshoot: the gain is 2 a d - c d^2
      const double d = double{after} - before;
      if (!std::isfinite(after) || !(2 * along * d - curve * d * d > 0)) continue;
      q_.scales[at] = after;
      for (std::int64_t i = 0; i < count; ++i)
        if (steps[static_cast<std::size_t>(i)] != 0)
          change(begin + i, after * steps[static_cast<std::size_t>(i)]);
    }
  }

 private:
  std::size_t index(std::int64_t i, std::int64_t j) const { return static_cast<std::size_t>(i * cols_ + j); }
  std::size_t place(std::int64_t g) const { return static_cast<std::size_t>(row_ * q_.view().groups() + g); }
  /// The error at column c grows by `d`.
  void add(std::int64_t c, float d) {
    if (d == 0) return;
    const auto* row = g_.data() + index(c, 0);
    for (std::int64_t k = 0; k < cols_; ++k) slope_[static_cast<std::size_t>(k)] += d * row[k];
  }
  void change(std::int64_t c, float value) {
    add(c, values_[c] - value);
    values_[c] = value;
  }

  quantized_tensor& q_;
  float* values_;
  const std::uint8_t* keep_;
  std::int64_t row_, cols_;
  const std::vector<float>& g_;
  std::vector<float> slope_;  ///< G (w - values)
};

}  // namespace

void refine(compressed_matrix& matrix, const float* w, std::int64_t rows, std::int64_t cols,
            const gram& inputs, const rounding_options& options, int passes) {
  if (!matrix.integers) return;
  auto g = inputs.values();
  double mean = 0;
  for (std::int64_t i = 0; i < cols; ++i) mean += inputs.at(i, i);
  for (std::int64_t i = 0; i < cols; ++i)
    g[static_cast<std::size_t>(i * cols + i)] +=
        static_cast<float>(options.damping * mean / static_cast<double>(cols));
#pragma omp parallel for schedule(dynamic, 4)
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto* keep = options.keep == nullptr ? nullptr : options.keep->data() + r * cols;
    row_refiner row(*matrix.integers, matrix.values.data() + r * cols, w + r * cols, keep, r, g);
    for (int pass = 0; pass < passes; ++pass) {
      row.move_codes();
      row.move_scales();
    }
  }
}

}  // namespace fastserve::compress
