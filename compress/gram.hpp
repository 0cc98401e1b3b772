#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace fastserve::compress {

/// Sum of x x^T over rows x that a matrix was multiplied with: what an error dW of the matrix does to its
/// output is tr(dW G dW^T). Layer-wise reconstruction as in GPTQ (arXiv 2210.17323, eq. 1 and 2).
class gram {
 public:
  gram() = default;
  /// `sums`: [size, size]. `magnitudes`: sum of |x| of each column, over `rows` rows.
  gram(std::vector<float> sums, std::vector<double> magnitudes, std::int64_t rows)
      : size_{static_cast<std::int64_t>(magnitudes.size())},
        rows_{rows},
        sums_{std::move(sums)},
        magnitudes_{std::move(magnitudes)} {}

  std::int64_t size() const { return size_; }
  /// [size, size], symmetric, complete.
  const std::vector<float>& values() const { return sums_; }
  float at(std::int64_t i, std::int64_t j) const { return sums_[static_cast<std::size_t>(i * size_ + j)]; }
  /// Mean |x| of each column.
  std::vector<float> mean_magnitudes() const;
  /// The sums of x[i] / by[i].
  gram divided(const std::vector<float>& by) const;

 private:
  std::int64_t size_ = 0;
  std::int64_t rows_ = 0;
  std::vector<float> sums_;
  std::vector<double> magnitudes_;
};

/// sqrt(tr(D G D^T) / tr(W G W^T)) for matrices [rows, size]: how far products with w + d are from those with
/// w. With a null gram the inputs count as uncorrelated and of one size. `stride`: only every stride-th row.
double relative_error(const float* w, const float* approximation, std::int64_t rows, std::int64_t size,
                      const gram* inputs, std::int64_t stride = 1);

/// The upper triangular U of size n x n with inverse(G + damping mean(diag G) I) = U^T U. Columns that no
/// input ever used count as damping alone. Throws std::runtime_error when the matrix is not positive
/// definite.
std::vector<float> inverse_factor(const gram& inputs, double damping);

}  // namespace fastserve::compress
