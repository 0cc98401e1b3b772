#include "compress/rounding.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fastserve::compress {
namespace {

using kernels::quantized_format;
using kernels::quantized_tensor;
using kernels::zero_kind;

constexpr std::int64_t factor_rows = 8;  // share a row of the factor while it is in cache

/// What turns the numbers of a group into codes.
struct code_range {
  float scale = 0;
  int zero = 0;
};

int code_of(float x, const code_range& range, const quantized_format& format) {
  if (range.scale == 0) return range.zero;
  const auto nearest = std::nearbyint(double{x} / range.scale) + range.zero;
  return static_cast<int>(std::clamp(nearest, double(format.lowest()), double(format.highest())));
}

float value_of(int code, const code_range& range) {
  return range.scale * static_cast<float>(code - range.zero);
}

/// The range of numbers between low <= 0 and high >= 0.
code_range range_between(float low, float high, const quantized_format& format) {
  code_range out;
  if (format.zero == zero_kind::none) {
    // eight bits lose nothing by leaving -128 out; of four each code counts: the larger side gets the -8
    out.scale = format.bits == 8 ? std::max(high, -low) / 127.0F : (high > -low ? high : low) / -8.0F;
    out.scale = kernels::rounded_to(format.scale, out.scale);
    return out;
  }
  out.scale = kernels::rounded_to(format.scale, (high - low) / static_cast<float>(format.highest()));
  if (out.scale != 0)
    out.zero = static_cast<int>(
        std::clamp(std::nearbyint(-low / out.scale), 0.0F, static_cast<float>(format.highest())));
  return out;
}

/// The range for `count` numbers; with `clip` the one of least error weighted by `weights`.
code_range choose_range(const float* x, const float* weights, std::int64_t count,
                        const quantized_format& format, bool clip) {
  float low = 0;
  float high = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  auto best = range_between(low, high, format);
  if (!clip) return best;
  double least = std::numeric_limits<double>::infinity();
  constexpr int steps = 24;
  for (int step = 0; step < steps; ++step) {
    const float shrink = 1.0F - 0.02F * static_cast<float>(step);
    // four symmetric bits have a side with eight codes and one with seven: both ways round
    for (const float side : {1.0F, -1.0F}) {
      auto range = range_between(low * shrink, high * shrink, format);
      if (side < 0) {
        if (format.zero != zero_kind::none || format.bits == 8) break;
        range.scale = -range.scale;
      }
      double error = 0;
      for (std::int64_t i = 0; i < count && error < least; ++i) {
        const double d = double{x[i]} - value_of(code_of(x[i], range, format), range);
        error += d * d * (weights == nullptr ? 1.0 : double{weights[i]});
      }
      if (error < least) {
        least = error;
        best = range;
      }
    }
  }
  return best;
}

class matrix_rounder {
 public:
  matrix_rounder(const float* w, std::int64_t rows, std::int64_t cols, const rounding_options& options)
      : w_{w}, rows_{rows}, cols_{cols}, options_{options} {
    if (options.format) {
      out_.integers.emplace(*options.format, rows, cols);
      group_ = options.format->group_columns(cols);
      groups_ = options.format->groups(cols);
    } else {
      group_ = cols;
      groups_ = 1;
    }
    out_.values.resize(static_cast<std::size_t>(rows * cols));
  }

  /// `factor` and `weights` (one a column) may be null: then nothing is fed back.
  compressed_matrix run(const float* factor, const float* weights) {
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t first = 0; first < rows_; first += factor_rows)
      run_rows(first, std::min(rows_, first + factor_rows), factor, weights);
    return std::move(out_);
  }

 private:
  void run_rows(std::int64_t first, std::int64_t last, const float* factor, const float* weights) {
    const auto count = static_cast<std::size_t>((last - first) * cols_);
    std::vector<float> left(w_ + first * cols_, w_ + first * cols_ + count);
    std::vector<code_range> ranges(static_cast<std::size_t>(last - first));
    for (std::int64_t c = 0; c < cols_; ++c) {
      if (options_.format && c % group_ == 0) {
        const auto width = std::min(group_, cols_ - c);
        for (auto r = first; r < last; ++r) {
          auto& range = ranges[static_cast<std::size_t>(r - first)];
          range = choose(left.data() + (r - first) * cols_ + c, r, c, width, weights);
          const auto g = static_cast<std::size_t>(r * groups_ + c / group_);
          out_.integers->scales[g] = range.scale;
          if (!out_.integers->zeros.empty()) out_.integers->zeros[g] = static_cast<std::uint8_t>(range.zero);
        }
      }
      const auto* row_of_factor = factor == nullptr ? nullptr : factor + c * cols_;
      for (auto r = first; r < last; ++r) {
        auto* x = left.data() + (r - first) * cols_;
        const float rounded = round_one(x[c], r, c, ranges[static_cast<std::size_t>(r - first)]);
        if (row_of_factor == nullptr) continue;
        const float error = (x[c] - rounded) / row_of_factor[c];
        if (error == 0.0F) continue;
        for (auto k = c + 1; k < cols_; ++k) x[k] -= error * row_of_factor[k];
      }
    }
  }

  /// Pruned weights do not widen a group's range.
  code_range choose(const float* x, std::int64_t row, std::int64_t col, std::int64_t count,
                    const float* weights) const {
    std::vector<float> kept_values(x, x + count);
    if (options_.keep != nullptr)
      for (std::int64_t i = 0; i < count; ++i)
        if ((*options_.keep)[static_cast<std::size_t>(row * cols_ + col + i)] == 0)
          kept_values[static_cast<std::size_t>(i)] = 0;
    return choose_range(kept_values.data(), weights == nullptr ? nullptr : weights + col, count,
                        *options_.format, options_.clip);
  }

  float round_one(float x, std::int64_t row, std::int64_t col, const code_range& range) {
    const auto i = static_cast<std::size_t>(row * cols_ + col);
    const bool keep = options_.keep == nullptr || (*options_.keep)[i] != 0;
    float out = keep ? x : 0.0F;
    if (options_.format) {
      const int code = keep ? code_of(x, range, *options_.format) : range.zero;
      out_.integers->codes[i] = static_cast<std::uint8_t>(code);
      out = value_of(code, range);
    }
    out_.values[i] = out;
    return out;
  }

  const float* w_;
  std::int64_t rows_, cols_;
  const rounding_options& options_;
  std::int64_t group_ = 0;
  std::int64_t groups_ = 0;
  compressed_matrix out_;
};

}  // namespace

compressed_matrix round_nearest(const float* w, std::int64_t rows, std::int64_t cols,
                                const rounding_options& options) {
  return matrix_rounder(w, rows, cols, options).run(nullptr, nullptr);
}

compressed_matrix round_with_feedback(const float* w, std::int64_t rows, std::int64_t cols,
                                      const std::vector<float>& factor, const rounding_options& options) {
  std::vector<float> weights(static_cast<std::size_t>(cols));
  for (std::int64_t c = 0; c < cols; ++c) {
    const auto u = factor[static_cast<std::size_t>(c * cols + c)];
    weights[static_cast<std::size_t>(c)] = 1.0F / (u * u);
  }
  return matrix_rounder(w, rows, cols, options).run(factor.data(), weights.data());
}

}  // namespace fastserve::compress
