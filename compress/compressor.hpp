#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compress/pruning.hpp"
#include "kernels/backend.hpp"
#include "model/architecture.hpp"
#include "model/weight_source.hpp"

namespace fastserve::compress {

struct compress_options {
  std::optional<kernels::quantized_format> format;  ///< nothing: prune only
  pruning prune;
  /// Sequences of tokens to calibrate with; none = round to nearest.
  std::vector<std::vector<std::int32_t>> calibration;
};

/// What became of one matrix: how far its products are from what they should be, relative. Without
/// calibration the error of the weights themselves.
struct matrix_report {
  std::int32_t layer = 0;
  std::string name;       ///< "self_attn.q_proj"
  double nearest = 0;     ///< rounded (and pruned by magnitude) alone
  double compressed = 0;  ///< as it was written
};

/// Receives the result, in the order of model::tensors_of().
class compressed_sink {
 public:
  virtual ~compressed_sink() = default;
  virtual void matrix(std::string_view name, const kernels::quantized_tensor& integers) = 0;
  /// Numbers that were changed or belong to a layer.
  virtual void numbers(std::string_view name, const std::vector<std::int64_t>& shape,
                       const std::vector<float>& values, bool vector) = 0;
  /// A tensor to be copied as it is.
  virtual void copy(std::string_view name, const model::host_tensor& tensor) = 0;
};

/// Told before each matrix: weights done, weights in all.
using compress_progress = std::function<void(std::int64_t done, std::int64_t total)>;

/// Compresses the matrices of all layers; embeddings and head stay. With calibration, layer by layer:
///   1. the layer runs on what the compressed layers before it gave, and the inputs of its products are kept
///      as Gram matrices;
///   2. factors are searched that even out the columns of query, key and value, of gate and up, of the
///      attention's output and of down (scale_search.hpp), their inverses folded into the norm before, the
///      value's rows, up's rows;
///   3. in the order in which tokens pass them, query, key and value, the attention's output, gate and up,
///   and
///      down: the layer runs again with what is rounded so far, beside the original's, and the matrices
///      become those that make up best for what was lost before them (target.hpp); each is rounded with error
///      feedback and clipped groups (rounding.hpp), and its codes and scales moved to where the error is
///      least (refinement.hpp);
///   4. the layer runs again as it now is.
/// Throws std::runtime_error with one line: models whose matrices are stored transposed or fused (gpt2).
std::vector<matrix_report> compress_model(const model::architecture& arch, model::weight_source& source,
                                          const compress_options& options, kernels::backend& on,
                                          compressed_sink& sink, const compress_progress& progress);

}  // namespace fastserve::compress
