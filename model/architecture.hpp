#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.hpp"

namespace fastserve::model {

/// What a decoder-only transformer is, as data. Filled from config.json; the forward pass reads nothing else.
struct architecture {
  std::string model_type;  ///< config.json's "model_type"

  std::int32_t vocab_size = 0;
  std::int32_t hidden_size = 0;
  std::int32_t layers = 0;
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t intermediate_size = 0;
  std::int32_t max_positions = 0;  ///< tokens of a sequence, rope scaling included; rows of a learned table

  kernels::norm_kind norm = kernels::norm_kind::rms;
  float norm_epsilon = 1e-5F;
  bool query_key_norm = false;  ///< RMS norm of every query and key head before the rotation
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool norm_bias = false;  ///< LayerNorm's bias
  bool gated_mlp = true;
  kernels::activation act = kernels::activation::silu;
  bool learned_positions = false;  ///< a table added to the embedding instead of a rotation
  kernels::rope_table rope;        ///< scaling folded in
  std::string rope_text;           ///< "llama3, theta 500000, factor 32"; empty without a rotation
  float attention_scale = 0.0F;    ///< factor on query times key
  bool tied_head = false;          ///< the head's matrix is the embedding
  bool transposed_linear = false;  ///< matrices stored [in, out] (GPT-2)
  /// Sliding window of each layer in tokens, 0 = full attention. [layers]
  std::vector<std::int32_t> window;

  kernels::dtype stored_type =
      kernels::dtype::f32;            ///< "dtype" or "torch_dtype"; the files have the last word
  std::int32_t bos_id = -1;           ///< -1 = none
  std::vector<std::int32_t> eos_ids;  ///< inside the vocabulary, each once

  /// Columns of the stacked query, key and value projection.
  std::int32_t qkv_size() const { return (heads + 2 * kv_heads) * head_dim; }
  /// Columns of the attention's output before its projection.
  std::int32_t query_size() const { return heads * head_dim; }

  /// Multiply-add operations (2 each) of one token in one layer, without attention over the past.
  double layer_flops() const;
  /// Parameters of one layer / of the embedding and positions / of the final norm and, unless tied, the head.
  std::int64_t layer_parameters() const;
  std::int64_t embedding_parameters() const;
  std::int64_t head_parameters() const;
  std::int64_t parameters() const;
  /// Bytes of keys and values of one token in one layer.
  std::size_t kv_token_bytes(kernels::dtype type) const;
};

/// Reads DIR/config.json (and generation_config.json's eos ids where present).
/// Throws std::runtime_error with one line: file, key, found, expected.
architecture read_architecture(const std::filesystem::path& config_json);

/// The same of text in memory; `name` stands for the file in errors.
architecture parse_architecture(std::string_view config_json, const std::string& name);

}  // namespace fastserve::model
