#include "compress/scale_search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compress/rounding.hpp"

namespace fastserve::compress {
namespace {

constexpr std::int64_t searched_rows = 256;

/// Rows of all matrices, evenly chosen.
std::vector<float> sample(const std::vector<scaled_matrix>& matrices, std::int64_t cols) {
  std::vector<float> out;
  for (const auto& m : matrices) {
    const auto stride = std::max<std::int64_t>(1, m.rows / searched_rows);
    for (std::int64_t r = 0; r < m.rows; r += stride)
      out.insert(out.end(), m.values + r * cols, m.values + (r + 1) * cols);
  }
  return out;
}

}  // namespace

std::vector<float> search_scales(const std::vector<scaled_matrix>& matrices, std::int64_t cols,
                                 const gram& inputs, const kernels::quantized_format& format,
                                 const std::vector<std::int32_t>& shared) {
  const auto size = static_cast<std::size_t>(cols);
  auto magnitude = inputs.mean_magnitudes();
  if (!shared.empty()) {
    const auto groups = static_cast<std::size_t>(*std::max_element(shared.begin(), shared.end())) + 1;
    std::vector<float> sums(groups), counts(groups);
    for (std::size_t i = 0; i < size; ++i) {
      sums[static_cast<std::size_t>(shared[i])] += magnitude[i];
      ++counts[static_cast<std::size_t>(shared[i])];
    }
    for (std::size_t i = 0; i < size; ++i)
      magnitude[i] = sums[static_cast<std::size_t>(shared[i])] / counts[static_cast<std::size_t>(shared[i])];
  }
  const auto w = sample(matrices, cols);
  const auto rows = static_cast<std::int64_t>(w.size()) / cols;
  std::vector<float> best(size, 1.0F);
  double least = std::numeric_limits<double>::infinity();
  rounding_options options;
  options.format = format;
  std::vector<float> scaled(w.size());
  for (int step = 0; step <= 20; ++step) {
    std::vector<float> factors(size);
    float low = std::numeric_limits<float>::infinity();
    float high = 0;
    for (std::size_t i = 0; i < size; ++i) {
      factors[i] = std::max(1e-4F, std::pow(magnitude[i], 0.05F * static_cast<float>(step)));
      low = std::min(low, factors[i]);
      high = std::max(high, factors[i]);
    }
    const float middle = std::sqrt(low * high);
    for (auto& f : factors) f = std::clamp(f / middle, 1.0F / 64, 64.0F);
    for (std::size_t i = 0; i < w.size(); ++i) scaled[i] = w[i] * factors[i % size];
    auto rounded = round_nearest(scaled.data(), rows, cols, options).values;
    for (std::size_t i = 0; i < w.size(); ++i) rounded[i] /= factors[i % size];
    const auto error = relative_error(w.data(), rounded.data(), rows, cols, &inputs);
    if (error < least) {
      least = error;
      best = factors;
    }
  }
  return best;
}

}  // namespace fastserve::compress
