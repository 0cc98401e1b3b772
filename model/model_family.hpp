#pragma once

#include <cstdint>
#include <string_view>

#include "model/architecture.hpp"
#include "model/tensor_names.hpp"

namespace fastserve::model {

/// Whether a family's projections carry biases.
enum class bias_rule : std::uint8_t {
  never,
  always,
  attention_bias,  ///< as config.json's "attention_bias" says
  mlp_bias         ///< as config.json's "mlp_bias" says
};

/// How a family's config.json speaks of sliding windows.
enum class window_rule : std::uint8_t {
  none,
  every_layer,  ///< "sliding_window" holds for all layers
  by_layer      ///< "use_sliding_window", then "layer_types" or "max_window_layers"
};

/// Names of the keys in config.json.
struct config_keys {
  std::string_view hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, max_positions,
      norm_epsilon, activation;
};

/// Values that the reference library assumes for absent keys. 0 = derived: kv_heads from heads, head_dim from
/// hidden_size / heads, intermediate_size as 4 * hidden_size. Ids: -1 = none.
struct config_defaults {
  std::int32_t vocab_size, hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, max_positions;
  double norm_epsilon;
  std::string_view activation;
  std::int32_t sliding_window;
  bool tied_head;
  std::int32_t bos_id, eos_id;
};

/// One model type of Hugging Face transformers, as data: adding a model of this kind is adding a row
/// (docs/adding_a_model.md).
struct model_family {
  std::string_view model_type;
  config_keys keys;
  config_defaults defaults;
  kernels::norm_kind norm = kernels::norm_kind::rms;
  bool norm_bias = false;
  bool query_key_norm = false;
  bool gated_mlp = true;
  bool learned_positions = false;
  bool transposed_linear = false;
  bias_rule qkv_bias = bias_rule::never;
  bias_rule attention_output_bias = bias_rule::never;
  bias_rule mlp_bias = bias_rule::never;
  window_rule window = window_rule::none;
  tensor_names names;
};

/// The row of a model type. Throws std::runtime_error that names `file` (unless empty) and lists the known
/// types.
const model_family& family_of(std::string_view model_type, std::string_view file);

}  // namespace fastserve::model
