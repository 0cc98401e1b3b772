#pragma once

#include <array>
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
/// `factor`: U with inverse = U^T U, see inverse_factor(). `halves`: the sums over one half of the tokens and
/// over the other. What those do not agree on is nothing to learn: with (W sum + sum) U^T of either called A
/// and B, what is added to W is taken times 1 - |A - B|^2 / |A + B|^2, or 0: |A - B|^2 is what chance adds to
/// |A + B|^2 (shrinkage after James and Stein, positive part). Without it a short text makes models worse.
std::vector<float> least_squares_target(const float* w, std::int64_t rows, std::int64_t cols,
                                        const std::vector<float>& factor, const std::array<drift, 2>& halves);

}  // namespace fastserve::compress
