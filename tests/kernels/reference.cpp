#include "reference.hpp"

#include <algorithm>
#include <cmath>

namespace fastserve::kernels::reference {

matrix linear(const matrix& in, const matrix& w) {
  matrix out{in.rows, w.rows};
  for (std::int64_t r = 0; r < in.rows; ++r) {
    for (std::int64_t n = 0; n < w.rows; ++n) {
      double sum = 0;
      for (std::int64_t k = 0; k < in.cols; ++k) sum += double{in.at(r, k)} * w.at(n, k);
      out.at(r, n) = static_cast<float>(sum);
    }
  }
  return out;
}

matrix linear_magnitude(const matrix& in, const matrix& w) {
  matrix positive_in = in;
  matrix positive_w = w;
  for (auto& x : positive_in.values) x = std::abs(x);
  for (auto& x : positive_w.values) x = std::abs(x);
  return linear(positive_in, positive_w);
}

matrix rms_norm(const matrix& in, const std::vector<float>& gain, float epsilon) {
  matrix out{in.rows, in.cols};
  for (std::int64_t r = 0; r < in.rows; ++r) {
    double squares = 0;
    for (std::int64_t c = 0; c < in.cols; ++c) squares += double{in.at(r, c)} * in.at(r, c);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(in.cols) + epsilon);
    for (std::int64_t c = 0; c < in.cols; ++c) {
      out.at(r, c) = static_cast<float>(in.at(r, c) * factor * gain[static_cast<std::size_t>(c)]);
    }
  }
  return out;
}

matrix layer_norm(const matrix& in, const std::vector<float>& gain, const std::vector<float>& bias,
                  float epsilon) {
  matrix out{in.rows, in.cols};
  for (std::int64_t r = 0; r < in.rows; ++r) {
    double mean = 0;
    for (std::int64_t c = 0; c < in.cols; ++c) mean += in.at(r, c);
    mean /= static_cast<double>(in.cols);
    double variance = 0;
    for (std::int64_t c = 0; c < in.cols; ++c) variance += (in.at(r, c) - mean) * (in.at(r, c) - mean);
    variance /= static_cast<double>(in.cols);
    for (std::int64_t c = 0; c < in.cols; ++c) {
      const auto i = static_cast<std::size_t>(c);
      const double y = (in.at(r, c) - mean) / std::sqrt(variance + epsilon) * gain[i];
      out.at(r, c) = static_cast<float>(y + (bias.empty() ? 0 : bias[i]));
    }
  }
  return out;
}

double activate(double x, activation f) {
  switch (f) {
    case activation::silu:
      return x / (1 + std::exp(-x));
    case activation::gelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case activation::relu:
      return std::max(x, 0.0);
  }
  return 0;
}

void rotate(float* head, const rope_table& rope, std::int32_t position) {
  const auto pairs = rope.inverse_frequency.size();
  for (std::size_t i = 0; i < pairs; ++i) {
    const float angle = static_cast<float>(position) * rope.inverse_frequency[i];
    const double c = std::cos(double{angle}) * rope.magnitude;
    const double s = std::sin(double{angle}) * rope.magnitude;
    float& x = rope.kind == rope_kind::half ? head[i] : head[2 * i];
    float& y = rope.kind == rope_kind::half ? head[i + pairs] : head[2 * i + 1];
    const double old_x = x;
    x = static_cast<float>(old_x * c - y * s);
    y = static_cast<float>(y * c + old_x * s);
  }
}

matrix rounded_to_i8(const matrix& m) {
  matrix out{m.rows, m.cols};
  for (std::int64_t r = 0; r < m.rows; ++r) {
    float largest = 0;
    for (std::int64_t c = 0; c < m.cols; ++c) largest = std::max(largest, std::abs(m.at(r, c)));
    if (largest == 0) continue;
    const float scale = largest / 127.0F;
    for (std::int64_t c = 0; c < m.cols; ++c)
      out.at(r, c) = std::nearbyint(m.at(r, c) * (127.0F / largest)) * scale;
  }
  return out;
}

std::vector<float> attend(const float* query, const matrix& keys, const matrix& values, std::int32_t position,
                          std::int32_t window, float scale) {
  const std::int32_t first = window > 0 ? std::max(position + 1 - window, 0) : 0;
  std::vector<double> scores;
  for (std::int32_t t = first; t <= position; ++t) {
    double score = 0;
    for (std::int64_t d = 0; d < keys.cols; ++d) score += double{query[d]} * keys.at(t, d);
    scores.push_back(score * scale);
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (auto& s : scores) total += s = std::exp(s - highest);
  std::vector<float> out;
  for (std::int64_t d = 0; d < values.cols; ++d) {
    double sum = 0;
    for (std::size_t i = 0; i < scores.size(); ++i)
      sum += scores[i] * values.at(first + static_cast<int>(i), d);
    out.push_back(static_cast<float>(sum / total));
  }
  return out;
}

}  // namespace fastserve::kernels::reference
