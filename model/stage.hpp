#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "kernels/backend.hpp"
#include "model/architecture.hpp"
#include "model/stage_weights.hpp"
#include "model/tensor_names.hpp"
#include "model/weight_source.hpp"

namespace fastserve::model {

struct stage_options {
  stage_range range;
  kernels::dtype compute = kernels::dtype::f32;  ///< f32, f16 or bf16: what weights are packed for
  std::int32_t max_rows = 1;                     ///< rows of the largest step
  std::int32_t max_sampled = 1;                  ///< rows of the largest step whose logits are wanted
  std::optional<kernels::quantized_format> rounded = {};  ///< see weight_form
};

/// Sees the result of every operation, for tests: what it is ("embedding", "input_norm", "qkv", "attention",
/// "attention_residual", "post_attention_norm", "up", "activation", "mlp_residual", "final_norm", "logits"),
/// the layer in the model (-1 outside of layers), and the tensor, valid during the call.
using stage_tap = std::function<void(std::string_view what, std::int32_t layer, kernels::tensor_view value)>;

/// Consecutive layers of a model on one device, with the embedding if it is the first stage and the final
/// norm and the head if it is the last. Allocates in the constructor only (back ends keep their own plans).
/// Not thread-safe.
///
///     stage s(arch, source, {.range = ranges[r], .compute = dtype::bf16, .max_rows = 512, .max_sampled =
///     64}, cpu); auto kv = cpu.make_kv_store(s.kv_shape(blocks, dtype::bf16)); if (!first) receive into
///     s.hidden(rows) s.forward(layout, *kv, stream); if (last) sample from s.logits(sampled) else send
///     s.hidden(rows)
class stage {
 public:
  /// Loads the weights but for those in `kept`, see stage_weights. `source` and `on` must outlive the stage.
  /// Throws std::runtime_error (files), std::bad_alloc (memory), std::invalid_argument (options).
  stage(const architecture& arch, weight_source& source, const stage_options& options, kernels::backend& on,
        const load_progress& progress = {}, const stage_weights* kept = nullptr, pack_cache* cache = nullptr);

  /// The weights, for the stage that takes this one's place; nothing else may be asked of this one then.
  stage_weights take_weights() { return std::move(weights_); }

  const architecture& arch() const { return arch_; }
  const stage_range& range() const { return options_.range; }
  /// Bytes of weights that stay in memory / that one step reads whatever its number of rows.
  std::size_t weight_bytes() const { return weights_.bytes(); }
  std::size_t step_weight_bytes() const { return weights_.step_bytes(); }
  const stage_weights& weights() const { return weights_; }
  /// Shape of the KV store that forward() wants.
  kernels::kv_shape kv_shape(std::int32_t blocks, kernels::dtype type) const;

  /// f32 [rows, hidden_size]: input of a stage that does not embed, output of one that has no head.
  kernels::tensor_view hidden(std::int32_t rows) const;
  /// f32 [sampled, vocab_size]: the last forward()'s logits in the order of its sampled_rows. Stages with a
  /// head only.
  kernels::tensor_view logits(std::int32_t sampled) const;

  /// A step that the device knows of and has not begun: what can be done before its input is there.
  struct prepared_step {
    std::int32_t rows = 0;
    std::int32_t sampled = 0;
    std::unique_ptr<kernels::step_plan> plan;  // null where there is nothing to do
  };
  /// Throws std::invalid_argument when the layout does not fit the stage, the model or the store: it comes by
  /// way of a message.
  prepared_step prepare(const kernels::step_layout& layout, const kernels::kv_store& kv, kernels::stream& on);
  /// All rows of a step through the layers. Store and stream are those of prepare().
  void forward(const prepared_step& what, kernels::kv_store& kv, kernels::stream& on);
  void forward(const kernels::step_layout& layout, kernels::kv_store& kv, kernels::stream& on) {
    forward(prepare(layout, kv, on), kv, on);
  }

  /// As kernels::step_recorder::failure().
  std::string_view recording_failure() const { return recorder_->failure(); }

  void set_tap(stage_tap tap) { tap_ = std::move(tap); }

 private:
  struct step;
  void check(const kernels::step_layout& layout, const kernels::kv_store& kv) const;
  void run(const step& s);
  void run_layer(std::int32_t layer, const step& s);
  void run_head(const step& s);
  void tap_norm(std::string_view what, std::int32_t layer, kernels::tensor_view normed,
                kernels::tensor_view in, const kernels::norm_weights& by, const step& s);
  kernels::attention_shape attention_shape(std::int32_t layer) const;
  void tap(std::string_view what, std::int32_t layer, kernels::tensor_view value) const {
    if (tap_) tap_(what, layer, value);
  }

  architecture arch_;
  stage_options options_;
  kernels::backend& backend_;
  std::unique_ptr<kernels::stream> load_stream_;
  stage_weights weights_;
  kernels::buffer hidden_;   ///< f32 [max_rows, hidden]: the residual
  kernels::buffer narrow_;   ///< inputs of products: normed rows, attention's output, activations
  kernels::buffer wide_;     ///< f32 outputs of products that are not residuals: qkv, gate and up
  kernels::buffer sampled_;  ///< f32 [max_sampled, hidden]
  kernels::buffer logits_;   ///< f32 [max_sampled, vocab]
  stage_tap tap_;
  std::unique_ptr<kernels::step_recorder> recorder_;  ///< goes first: it knows the addresses of all above
};

}  // namespace fastserve::model
