#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.hpp"

namespace fastserve::compress {

/// The sum of a b^T over pairs of rows a and b, multiplied by the back end: over a text's tokens this is most
/// of a compression's work.
class product_sums {
 public:
  product_sums(std::int64_t rows, std::int64_t cols, kernels::backend& on, kernels::stream& stream);

  /// `a`: [count, rows], `b`: [count, cols].
  void add(const std::vector<float>& a, const std::vector<float>& b);
  /// [rows, cols]
  std::vector<float> values() const;

 private:
  std::int64_t rows_, cols_;
  kernels::backend& backend_;
  kernels::stream& stream_;
  kernels::buffer sums_, left_;
};

}  // namespace fastserve::compress
