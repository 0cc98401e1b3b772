#pragma once

#include <cstdint>
#include <vector>

namespace fastserve::compress {

/// How far a compressed model's states are from the original's where a product reads them, as sums over
/// tokens: x is the product's input, r the residual that its result is added to, x' and r' the compressed
/// model's.
struct drift {
  std::vector<float> inputs;     ///< sum of (x - x') x'^T, [cols, cols]
  std::vector<float> residuals;  ///< sum of (r - r') x'^T, [rows, cols]; empty: added to no residual

  /// The sums of inputs, where those are divided by `by` in both models.
  void divide(const std::vector<float>& by);
};

/// The matrix [rows, cols] that the compressed model would have in this place, were it not to be rounded: the
/// one for which r' + W' x' is nearest to r + W x over all tokens. GPTAQ's aim (arXiv 2504.02692: what the
/// original puts out, from what the compressed model puts in), widened by the residual; the normal equations
/// give
///     W' = W + (W sum (x - x') x'^T + sum (r - r') x'^T) inverse(sum x' x'^T)
/// `factor`: inverse_factor() of the sum of x' x'^T; its damping keeps W' near W where inputs are few.
std::vector<float> least_squares_target(const float* w, std::int64_t rows, std::int64_t cols,
                                        const std::vector<float>& factor, const drift& off);

}  // namespace fastserve::compress
