#include "model/gguf_names.hpp"

#include "model/model_family.hpp"

namespace fastserve::model {

const tensor_names gguf_names{
    .prefix = "",
    .token_embedding = "token_embd",
    .position_embedding = "position_embd",
    .layers = "blk",
    .input_norm = "attn_norm",
    .query = "attn_q",
    .key = "attn_k",
    .value = "attn_v",
    .fused_qkv = "attn_qkv",
    .attention_output = "attn_output",
    .query_norm = "attn_q_norm",
    .key_norm = "attn_k_norm",
    .post_attention_norm = "ffn_norm",
    .gate = "ffn_gate",
    .up = "ffn_up",
    .down = "ffn_down",
    .final_norm = "output_norm",
    .head = "output",
};

std::vector<std::pair<std::string, std::string>> gguf_modules(std::string_view model_type,
                                                              std::int32_t layers) {
  using names = tensor_names;
  static constexpr std::string_view names::*whole[] = {&names::token_embedding, &names::position_embedding,
                                                       &names::final_norm};
  static constexpr std::string_view names::*of_a_layer[] = {
      &names::input_norm, &names::query,     &names::key,
      &names::value,      &names::fused_qkv, &names::attention_output,
      &names::query_norm, &names::key_norm,  &names::post_attention_norm,
      &names::gate,       &names::up,        &names::down};
  const auto& family = names_of(model_type);
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto role : whole)
    if (!(family.*role).empty())
      out.emplace_back(std::string(family.prefix) + std::string(family.*role), gguf_names.*role);
  for (std::int32_t layer = 0; layer < layers; ++layer)
    for (const auto role : of_a_layer)
      if (!(family.*role).empty())
        out.emplace_back(layer_name(family, family.prefix, layer, family.*role),
                         layer_name(gguf_names, "", layer, gguf_names.*role));
  out.emplace_back(family.head, gguf_names.head);
  return out;
}

}  // namespace fastserve::model
