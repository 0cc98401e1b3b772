#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.hpp"

namespace fastserve::model {

/// Names of a model type's modules in its files; a module's tensors are NAME.weight and NAME.bias. Layer
/// names are relative to "<layers>.<number>.". Empty: the model has no such module.
struct tensor_names {
  std::string_view prefix;  ///< before all names but `head`; files without it are accepted too
  std::string_view token_embedding;
  std::string_view position_embedding;
  std::string_view layers;
  std::string_view input_norm;
  std::string_view query, key, value;
  std::string_view fused_qkv;  ///< one matrix for the three above: queries, then keys, then values
  std::string_view attention_output;
  std::string_view query_norm, key_norm;
  std::string_view post_attention_norm;
  std::string_view gate, up, down;
  std::string_view final_norm;
  std::string_view head;
};

/// Contiguous part of a model: layers [first_layer, last_layer), with the embedding and the head at its ends.
struct stage_range {
  std::int32_t first_layer = 0;
  std::int32_t last_layer = 0;  ///< one past the last
  bool embeds = true;
  bool heads = true;
  friend bool operator==(const stage_range&, const stage_range&) = default;
};

/// The whole model as one range.
stage_range whole_range(const architecture& arch);
/// `stages` ranges of nearly equal layer counts (earlier stages get the remainder); stages <= layers.
std::vector<stage_range> even_ranges(const architecture& arch, std::int32_t stages);

/// A tensor that a model of some architecture must have.
struct tensor_spec {
  std::string name;                 ///< with the prefix
  std::vector<std::int64_t> shape;  ///< as stored
  bool vector = false;              ///< norm gains and biases
  bool gain = false;                ///< a norm's gain
  std::int64_t elements() const;
};

/// The tensors that a stage reads, in reading order; each name once (a tied head reads the embedding).
/// `prefix` is what the names in the files start with (see resolve_prefix).
std::vector<tensor_spec> tensors_of(const architecture& arch, const stage_range& range,
                                    std::string_view prefix);

/// Names of a known model type. Throws std::runtime_error listing the known ones.
const tensor_names& names_of(std::string_view model_type);

/// "<prefix><layers>.<layer>.<module>"
std::string layer_name(const tensor_names& names, std::string_view prefix, std::int32_t layer,
                       std::string_view module);

}  // namespace fastserve::model
