#pragma once

#include <string>
#include <vector>

#include "compress/compressor.hpp"
#include "compress/perplexity.hpp"
#include "model/model_folder.hpp"

namespace fastserve::launch {

/// What a compression did.
struct compress_report {
  model::model_description before, after;
  std::string format;  ///< "int4, group 32, f16 scales"
  std::string pruned;  ///< "2:4"; empty = nothing
  bool calibrated = false;
  std::vector<compress::matrix_report> matrices;
  kernels::dtype kv = kernels::dtype::f32;    ///< of the compressed model while it was judged
  std::optional<compress::text_score> score;  ///< "other" is the compressed model
};

/// Size, perplexity and the error of every layer, as a table.
std::string format_report(const compress_report& report);

/// The error of every layer's matrices, rounded to nearest and as written, as an SVG document.
std::string draw_report(const compress_report& report);

}  // namespace fastserve::launch
