#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/backend.hpp"
#include "model/architecture.hpp"
#include "model/pack_cache.hpp"
#include "model/tensor_names.hpp"
#include "model/weight_source.hpp"

namespace fastserve::model {

/// A projection on the device.
struct linear_weights {
  std::shared_ptr<const kernels::weight> matrix;
  kernels::tensor_view bias;  ///< f32 [1, rows], data == nullptr where there is none
  bool in_turns = false;      ///< of gate and up: for backend::linear_gated()
};

/// One layer on the device.
struct layer_weights {
  kernels::norm_weights input_norm;
  linear_weights qkv;  ///< queries over keys over values
  std::optional<kernels::norm_weights> query_norm, key_norm;
  linear_weights attention_output;
  kernels::norm_weights post_attention_norm;
  linear_weights up;  ///< gate over up when gated, or both in turn
  linear_weights down;
  std::vector<kernels::buffer> vectors;  ///< norm gains and biases: what the views above look at
};

/// What weights become on the device.
struct weight_form {
  kernels::dtype compute = kernels::dtype::f32;  ///< f32, f16 or bf16: what they are packed for
  /// Round matrices to this while loading. With fewer than 8 bits the head, which makes the logits, gets 8.
  std::optional<kernels::quantized_format> rounded = {};
};

/// The form of the head's matrix, and of the embedding table where matrices are rounded: a tied head is one
/// with it.
std::optional<kernels::quantized_format> head_format(const weight_form& form);

/// Told as weights arrive: bytes of the model files done and to do, by the type that config.json states.
using load_progress = std::function<void(std::size_t bytes_done, std::size_t bytes_total)>;

/// All weights of a stage on one device. Members not in the range are null. Another stage of the same model
/// and compute type on the same device may share what both need.
class stage_weights {
 public:
  /// Checks names, types and shapes of all its tensors before it reads the first byte of data; asks for no
  /// other tensor. The source must outlive the result: an embedding table may stay where it is. Throws
  /// std::runtime_error with one line: file, tensor, found, expected. What `kept` has of the same source is
  /// shared and not loaded again. `cache`, if any, is asked for packed matrices and given those it lacks.
  stage_weights(const architecture& arch, weight_source& source, const stage_range& range,
                const weight_form& form, kernels::backend& on, kernels::stream& stream,
                const load_progress& progress, const stage_weights* kept = nullptr,
                pack_cache* cache = nullptr);

  /// Lets go of all that `range` does not need.
  void keep_only(const stage_range& range);
  const stage_range& range() const { return range_; }

  std::shared_ptr<const kernels::weight> token_embedding;
  std::shared_ptr<const kernels::weight> position_embedding;
  std::vector<std::shared_ptr<const layer_weights>> layers;
  kernels::norm_weights final_norm;
  std::shared_ptr<const kernels::weight> head;

  /// Bytes that stay in memory, embedding tables included.
  std::size_t bytes() const;
  /// Bytes that one step reads, whatever its number of rows: all but the embedding tables.
  std::size_t step_bytes() const;
  /// Bytes of files that loading read, and how many of them were of the cache.
  std::uint64_t read_bytes() const { return read_bytes_; }
  std::uint64_t cached_bytes() const { return cached_bytes_; }

 private:
  friend class stage_loader;
  stage_range range_;
  std::uint64_t read_bytes_ = 0;
  std::uint64_t cached_bytes_ = 0;
  std::vector<kernels::buffer> final_vectors_;  ///< of the final norm
};

}  // namespace fastserve::model
