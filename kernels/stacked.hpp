#pragma once

#include <span>
#include <stdexcept>
#include <string>

namespace fastserve::kernels {

/// Throws std::invalid_argument for matrices that do not make one when put below each other: none, an empty
/// one, or one with another number of columns than the first.
template <class Matrix>
void check_stack(std::span<const Matrix> stacked) {
  if (stacked.empty()) throw std::invalid_argument("pack: no matrix given");
  for (const auto& m : stacked) {
    if (m.cols != stacked[0].cols || m.rows <= 0 || m.cols <= 0) {
      throw std::invalid_argument("pack: a matrix of " + std::to_string(m.rows) + " x " +
                                  std::to_string(m.cols) + " does not stack on one with " +
                                  std::to_string(stacked[0].cols) + " columns");
    }
  }
}

}  // namespace fastserve::kernels
