#include "compress/gram.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "compress/add_scaled.hpp"

namespace fastserve::compress {
namespace {

std::size_t place(std::int64_t row, std::int64_t col, std::int64_t cols) {
  return static_cast<std::size_t>(row * cols + col);
}

/// v G v^T
double energy(const float* v, std::int64_t size, const gram* inputs) {
  double sum = 0;
  if (inputs == nullptr) {
    for (std::int64_t i = 0; i < size; ++i) sum += double{v[i]} * v[i];
    return sum;
  }
  std::vector<float> product(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i)
    if (v[i] != 0.0F) add_scaled(product.data(), v[i], inputs->values().data() + place(i, 0, size), size);
  for (std::int64_t i = 0; i < size; ++i) sum += double{v[i]} * product[static_cast<std::size_t>(i)];
  return sum;
}

}  // namespace

std::vector<float> gram::mean_magnitudes() const {
  std::vector<float> out;
  for (const auto sum : magnitudes_)
    out.push_back(static_cast<float>(sum / static_cast<double>(std::max<std::int64_t>(1, rows_))));
  return out;
}

gram gram::divided(const std::vector<float>& by) const {
  auto out = *this;
  for (std::int64_t i = 0; i < size_; ++i) {
    const auto scale = 1.0F / by[static_cast<std::size_t>(i)];
    out.magnitudes_[static_cast<std::size_t>(i)] *= scale;
    for (std::int64_t j = 0; j < size_; ++j)
      out.sums_[place(i, j, size_)] *= scale / by[static_cast<std::size_t>(j)];
  }
  return out;
}

double relative_error(const float* w, const float* approximation, std::int64_t rows, std::int64_t size,
                      const gram* inputs, std::int64_t stride) {
  const auto judged = (rows + stride - 1) / stride;
  // summed in one order, however many threads there are
  std::vector<double> errors(static_cast<std::size_t>(judged));
  std::vector<double> wholes(static_cast<std::size_t>(judged));
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < judged; ++i) {
    const auto* x = w + i * stride * size;
    std::vector<float> d(static_cast<std::size_t>(size));
    for (std::int64_t c = 0; c < size; ++c)
      d[static_cast<std::size_t>(c)] = approximation[i * stride * size + c] - x[c];
    errors[static_cast<std::size_t>(i)] = energy(d.data(), size, inputs);
    wholes[static_cast<std::size_t>(i)] = energy(x, size, inputs);
  }
  const auto error = std::accumulate(errors.begin(), errors.end(), 0.0);
  const auto whole = std::accumulate(wholes.begin(), wholes.end(), 0.0);
  return whole > 0 ? std::sqrt(std::max(0.0, error) / whole) : 0.0;
}

std::vector<float> inverse_factor(const gram& inputs, double damping) {
  const auto n = inputs.size();
  double mean = 0;
  for (std::int64_t i = 0; i < n; ++i) mean += inputs.at(i, i);
  mean /= static_cast<double>(std::max<std::int64_t>(1, n));
  const double extra = mean > 0 ? damping * mean : 1.0;

  // G = M M^T with M upper triangular (Cholesky from the last row up), so that U = inverse(M). Doubles: what
  // is small on the diagonal is a difference of large numbers.
  std::vector<double> m(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j <= i; ++j) m[place(i, j, n)] = inputs.at(i, j) + (i == j ? extra : 0.0);
  // row k of `m` becomes column k of M, rows above are relieved of it
  for (auto k = n; k-- > 0;) {
    auto* row = m.data() + place(k, 0, n);
    if (!(row[k] > 0.0)) throw std::runtime_error("the calibration inputs are not numbers");
    const double pivot = std::sqrt(row[k]);
    for (std::int64_t j = 0; j <= k; ++j) row[j] /= pivot;
#pragma omp parallel for schedule(dynamic, 64) if (k > 512)
    for (std::int64_t i = 0; i < k; ++i) {
      const double factor = row[i];
      auto* other = m.data() + place(i, 0, n);
      for (std::int64_t j = 0; j <= i; ++j) other[j] -= factor * row[j];
    }
  }
  // M^T = m is lower triangular: M[i][k] = m[k][i]. Solve U M = I row by row: U[i][j] from left to right.
  std::vector<float> u(static_cast<std::size_t>(n * n));
#pragma omp parallel for schedule(dynamic, 16)
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<double> row(static_cast<std::size_t>(n));
    for (auto j = i; j < n; ++j) {
      const auto* column = m.data() + place(j, 0, n);  // column j of M
      double sum = i == j ? 1.0 : 0.0;
      for (auto k = i; k < j; ++k) sum -= row[static_cast<std::size_t>(k)] * column[k];
      row[static_cast<std::size_t>(j)] = sum / column[j];
      u[place(i, j, n)] = static_cast<float>(row[static_cast<std::size_t>(j)]);
    }
  }
  return u;
}

}  // namespace fastserve::compress
