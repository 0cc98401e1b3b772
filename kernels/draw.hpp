#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace fastserve::kernels {

/// One token to draw from a row of logits, as model::sampling_params means it.
struct draw_row {
  double uniform = 0.0;      ///< in [0, 1): the draw's random number
  std::int32_t row = 0;      ///< of the logits; several draws may share one
  std::int32_t top_k = 0;    ///< 0 = all
  float temperature = 1.0F;  ///< 0 = greedy
  float top_p = 1.0F;
  float min_p = 0.0F;
};

struct drawn_row {
  std::int32_t token = 0;
  bool valid = true;  ///< false: the logits held NaN or +inf or nothing finite; the token means nothing
};

/// Draws that may be on their way at once: those of a step, and of the one that runs ahead of its tokens.
inline constexpr std::size_t most_draws_begun = 2;

/// The last token that a cut keeps. Tokens rank by falling score, equals by rising id.
struct token_cut {
  float score = -std::numeric_limits<float>::infinity();
  std::int32_t token = std::numeric_limits<std::int32_t>::max();

  constexpr bool keeps(float other, std::int32_t id) const {
    return (other > score) | ((other == score) & (id <= token));  // no branch: loops become vector code
  }
};

}  // namespace fastserve::kernels
