#include "model/model_family.hpp"

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/text.hpp"

namespace fastserve::model {
namespace {

// Facts (keys, defaults, names) as in Hugging Face transformers, configuration_*.py and modeling_*.py.

constexpr config_keys llama_keys{
    .hidden_size = "hidden_size",
    .layers = "num_hidden_layers",
    .heads = "num_attention_heads",
    .kv_heads = "num_key_value_heads",
    .head_dim = "head_dim",
    .intermediate_size = "intermediate_size",
    .max_positions = "max_position_embeddings",
    .norm_epsilon = "rms_norm_eps",
    .activation = "hidden_act",
};

constexpr config_keys gpt2_keys{
    .hidden_size = "n_embd",
    .layers = "n_layer",
    .heads = "n_head",
    .kv_heads = "",
    .head_dim = "",
    .intermediate_size = "n_inner",
    .max_positions = "n_positions",
    .norm_epsilon = "layer_norm_epsilon",
    .activation = "activation_function",
};

constexpr tensor_names llama_names{
    .prefix = "model.",
    .token_embedding = "embed_tokens",
    .position_embedding = "",
    .layers = "layers",
    .input_norm = "input_layernorm",
    .query = "self_attn.q_proj",
    .key = "self_attn.k_proj",
    .value = "self_attn.v_proj",
    .fused_qkv = "",
    .attention_output = "self_attn.o_proj",
    .query_norm = "self_attn.q_norm",
    .key_norm = "self_attn.k_norm",
    .post_attention_norm = "post_attention_layernorm",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
    .final_norm = "norm",
    .head = "lm_head",
};

constexpr tensor_names gpt2_names{
    .prefix = "transformer.",
    .token_embedding = "wte",
    .position_embedding = "wpe",
    .layers = "h",
    .input_norm = "ln_1",
    .query = "",
    .key = "",
    .value = "",
    .fused_qkv = "attn.c_attn",
    .attention_output = "attn.c_proj",
    .query_norm = "",
    .key_norm = "",
    .post_attention_norm = "ln_2",
    .gate = "",
    .up = "mlp.c_fc",
    .down = "mlp.c_proj",
    .final_norm = "ln_f",
    .head = "lm_head",
};

constexpr std::array families{
    model_family{
        .model_type = "gpt2",
        .keys = gpt2_keys,
        .defaults = {50257, 768, 12, 12, 0, 0, 0, 1024, 1e-5, "gelu_new", 0, true, 50256, 50256},
        .norm = kernels::norm_kind::layer,
        .norm_bias = true,
        .gated_mlp = false,
        .learned_positions = true,
        .transposed_linear = true,
        .qkv_bias = bias_rule::always,
        .attention_output_bias = bias_rule::always,
        .mlp_bias = bias_rule::always,
        .names = gpt2_names,
    },
    model_family{
        .model_type = "llama",
        .keys = llama_keys,
        .defaults = {32000, 4096, 32, 32, 0, 0, 11008, 2048, 1e-6, "silu", 0, false, 1, 2},
        .qkv_bias = bias_rule::attention_bias,
        .attention_output_bias = bias_rule::attention_bias,
        .mlp_bias = bias_rule::mlp_bias,
        .names = llama_names,
    },
    model_family{
        .model_type = "mistral",
        .keys = llama_keys,
        .defaults = {32000, 4096, 32, 32, 8, 0, 14336, 131072, 1e-6, "silu", 4096, false, 1, 2},
        .window = window_rule::every_layer,
        .names = llama_names,
    },
    model_family{
        .model_type = "qwen2",
        .keys = llama_keys,
        .defaults = {151936, 4096, 32, 32, 32, 0, 22016, 32768, 1e-6, "silu", 4096, false, -1, -1},
        .qkv_bias = bias_rule::always,
        .window = window_rule::by_layer,
        .names = llama_names,
    },
    model_family{
        .model_type = "qwen3",
        .keys = llama_keys,
        .defaults = {151936, 4096, 32, 32, 32, 128, 22016, 32768, 1e-6, "silu", 4096, false, -1, -1},
        .query_key_norm = true,
        .qkv_bias = bias_rule::attention_bias,
        .attention_output_bias = bias_rule::attention_bias,
        .window = window_rule::by_layer,
        .names = llama_names,
    },
};

}  // namespace

const model_family& family_of(std::string_view model_type, std::string_view file) {
  std::vector<std::string_view> known;
  for (const auto& family : families) {
    if (family.model_type == model_type) return family;
    known.push_back(family.model_type);
  }
  throw std::runtime_error((file.empty() ? "" : std::string(file) + ": ") + "model_type is " +
                           in_quotes(model_type, 60) + ", expected one of: " + joined(known));
}

}  // namespace fastserve::model
