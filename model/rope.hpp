#pragma once

#include <cstdint>
#include <string>

#include "kernels/backend.hpp"

namespace fastserve::model {

/// What a config file says about rotary embedding; defaults are the reference library's.
struct rope_settings {
  enum class scaling : std::uint8_t {
    none,     ///< "default"
    linear,   ///< frequencies divided by `factor`
    dynamic,  ///< NTK by length: unscaled up to the trained length, beyond which we do not go (see context())
    llama3,   ///< Llama 3.1: low frequencies divided, a ramp between
    yarn      ///< arXiv 2309.00071
  };
  scaling kind = scaling::none;
  double theta = 10000.0;
  double factor = 1.0;
  double original_positions = 0;  ///< trained length; llama3 and yarn
  double low_freq_factor = 1.0;   ///< llama3
  double high_freq_factor = 4.0;  ///< llama3
  double beta_fast = 32.0;        ///< yarn
  double beta_slow = 1.0;         ///< yarn
  double attention_factor = 0.0;  ///< yarn; 0 = derived from the factor (or the mscales)
  double mscale = 0.0;            ///< yarn; 0 = absent
  double mscale_all_dim = 0.0;    ///< yarn; 0 = absent
  bool truncate = true;           ///< yarn: ramp ends rounded to whole dimensions

  /// Positions that the rotation is good for, of a model whose config says `max_positions`. Linear scaling
  /// and YaRN stretch the configured length; dynamic NTK ends at it: beyond, its base changes with the
  /// sequence's length, so that cached keys no longer agree with new queries and an answer would depend on
  /// how its prompt was chunked.
  std::int32_t context(std::int32_t max_positions) const;

  /// "llama3, theta 500000, factor 8"
  std::string text() const;
};

/// The table for heads of `head_dim` (even), of which all dimensions rotate. Single precision step by step
/// like the reference: for positions in the 100,000s the rounding of a frequency shows.
kernels::rope_table make_rope_table(const rope_settings& settings, std::int32_t head_dim);

}  // namespace fastserve::model
