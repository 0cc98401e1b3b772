// config.json of Hugging Face transformers (4 and 5) to an architecture, by the table in model_family.cpp.

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "model/architecture.hpp"
#include "model/checkpoint_quantization.hpp"
#include "model/json_object.hpp"
#include "model/model_family.hpp"
#include "model/rope.hpp"
#include "model/rope_config.hpp"
#include "model/size_limits.hpp"
#include "model/text.hpp"

namespace fastserve::model {
namespace {

constexpr std::array<std::pair<std::string_view, kernels::activation>, 7> activations{{
    {"silu", kernels::activation::silu},
    {"swish", kernels::activation::silu},
    {"gelu", kernels::activation::gelu},
    {"gelu_new", kernels::activation::gelu_tanh},
    {"gelu_pytorch_tanh", kernels::activation::gelu_tanh},
    {"gelu_fast", kernels::activation::gelu_tanh},
    {"relu", kernels::activation::relu},
}};

kernels::activation read_activation(const json_object& config, const model_family& family) {
  const auto name = config.text(family.keys.activation, std::string(family.defaults.activation));
  std::vector<std::string_view> known;
  for (const auto& [key, value] : activations) {
    if (key == name) return value;
    known.push_back(key);
  }
  config.fail(family.keys.activation, "one of: " + joined(known));
}

kernels::dtype read_stored_type(const json_object& config) {
  const auto key = config.has("dtype") ? "dtype" : "torch_dtype";
  const auto name = config.text(key, "float32");
  if (name == "float32") return kernels::dtype::f32;
  if (name == "float16") return kernels::dtype::f16;
  if (name == "bfloat16") return kernels::dtype::bf16;
  config.fail(key, "float32, float16 or bfloat16");
}

/// The window of each layer, as Qwen's files say it.
std::vector<std::int32_t> windows_by_layer(const json_object& config, std::int32_t layers,
                                           std::int32_t fallback) {
  const bool on = config.flag("use_sliding_window", false) && (config.has("sliding_window") || fallback > 0);
  const auto window = on ? config.integer32("sliding_window", 1, most_positions, fallback) : 0;
  std::vector<std::int32_t> out(static_cast<std::size_t>(layers), 0);
  if (const auto types = config.texts("layer_types"); !types.empty()) {
    if (types.size() != out.size())
      config.fail("layer_types", "a list of " + std::to_string(layers) + ", one a layer");
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (types[i] == "sliding_attention") {
        if (!on) config.fail("use_sliding_window", "true, as layer_types holds sliding_attention");
        out[i] = window;
      } else if (types[i] != "full_attention") {
        config.fail("layer_types",
                    "full_attention or sliding_attention in each place, not " + in_quotes(types[i], 40));
      }
    }
    return out;
  }
  if (!on) return out;
  const auto full = config.integer32("max_window_layers", 0, 1 << 20, 28);
  for (auto i = full; i < layers; ++i) out[static_cast<std::size_t>(i)] = window;
  return out;
}

/// Families whose layers are all alike: layer_types may say so, and nothing else.
void check_layer_types(const json_object& config, bool sliding) {
  const std::string_view expected = sliding ? "sliding_attention" : "full_attention";
  for (const auto& type : config.texts("layer_types"))
    if (type != expected)
      config.fail("layer_types", std::string(expected) + " in each place, not " + in_quotes(type, 40));
}

std::vector<std::int32_t> read_windows(const json_object& config, const model_family& family,
                                       std::int32_t layers) {
  // null switches the window off, an absent key means the default
  const auto fallback = config.has_null("sliding_window") ? 0 : family.defaults.sliding_window;
  switch (family.window) {
    case window_rule::none:
      if (config.has("sliding_window") && config.flag("use_sliding_window", false))
        config.fail("use_sliding_window", "false");
      check_layer_types(config, false);
      break;
    case window_rule::every_layer: {
      const auto window = config.integer32("sliding_window", 1, most_positions, fallback);
      check_layer_types(config, window > 0);
      return std::vector<std::int32_t>(static_cast<std::size_t>(layers), window);
    }
    case window_rule::by_layer:
      return windows_by_layer(config, layers, fallback);
  }
  return std::vector<std::int32_t>(static_cast<std::size_t>(layers), 0);
}

bool read_bias(const json_object& config, bias_rule rule) {
  switch (rule) {
    case bias_rule::never:
      return false;
    case bias_rule::always:
      return true;
    case bias_rule::attention_bias:
      return config.flag("attention_bias", false);
    case bias_rule::mlp_bias:
      return config.flag("mlp_bias", false);
  }
  return false;
}

void read_sizes(architecture& a, const json_object& config, const model_family& family) {
  const auto& keys = family.keys;
  const auto& defaults = family.defaults;
  a.vocab_size = config.integer32("vocab_size", 1, most_vocab, defaults.vocab_size);
  a.hidden_size = config.integer32(keys.hidden_size, 1, most_hidden, defaults.hidden_size);
  a.layers = config.integer32(keys.layers, 1, most_layers, defaults.layers);
  a.heads = config.integer32(keys.heads, 1, most_heads, defaults.heads);
  a.max_positions = config.integer32(keys.max_positions, 1, most_positions, defaults.max_positions);
  a.norm_epsilon = static_cast<float>(config.number(keys.norm_epsilon, 0.0, 1.0, defaults.norm_epsilon));

  a.kv_heads = a.heads;
  if (!keys.kv_heads.empty()) {
    // null means as many as heads; an absent key means the family's default
    const auto fallback =
        defaults.kv_heads == 0 || config.has_null(keys.kv_heads) ? a.heads : defaults.kv_heads;
    a.kv_heads = config.integer32(keys.kv_heads, 1, most_heads, fallback);
    if (a.heads % a.kv_heads != 0)
      config.fail(keys.kv_heads, "a divisor of " + std::string(keys.heads) + " " + std::to_string(a.heads));
  }

  const bool explicit_head_dim =
      !keys.head_dim.empty() && (config.has(keys.head_dim) || defaults.head_dim > 0);
  if (explicit_head_dim) {
    a.head_dim = config.integer32(keys.head_dim, 1, most_head_dim, defaults.head_dim);
  } else {
    if (a.hidden_size % a.heads != 0)
      config.fail(keys.hidden_size,
                  "a multiple of " + std::string(keys.heads) + " " + std::to_string(a.heads));
    a.head_dim = a.hidden_size / a.heads;
    if (a.head_dim > most_head_dim)
      config.fail(keys.heads, "heads of at most " + std::to_string(most_head_dim) + " dimensions");
  }

  const auto intermediate = defaults.intermediate_size > 0 ? defaults.intermediate_size : 4 * a.hidden_size;
  a.intermediate_size = config.integer32(keys.intermediate_size, 1, most_intermediate, intermediate);
}

/// What changes the arithmetic in ways that we do not have: better refused than answered wrongly.
void refuse_unsupported(const json_object& config) {
  read_quantization(config);
  for (const auto* flag :
       {"scale_attn_by_inverse_layer_idx", "add_cross_attention", "use_mrope", "is_encoder_decoder"})
    if (config.flag(flag, false)) config.fail(flag, "false");
  if (!config.flag("is_causal", true)) config.fail("is_causal", "true");

  // What other models' code does beside ours, and the number that makes it do nothing.
  struct factor {
    const char* key;
    double neutral;
  };
  static constexpr factor factors[] = {{"attn_logit_softcapping", 0},
                                       {"final_logit_softcapping", 0},
                                       {"logit_scale", 1},
                                       {"logits_scaling", 1},
                                       {"lm_head_multiplier", 1},
                                       {"embedding_multiplier", 1},
                                       {"residual_multiplier", 1},
                                       {"attention_multiplier", 0},
                                       {"query_pre_attn_scalar", 0},
                                       {"scale_emb", 1},
                                       {"scale_depth", 0},
                                       {"dim_model_base", 0},
                                       {"clip_qkv", 0},
                                       {"attn_temperature_tuning", 0},
                                       {"kv_lora_rank", 0},
                                       {"num_local_experts", 0},
                                       {"num_experts", 0},
                                       {"n_routed_experts", 0},
                                       {"num_kv_shared_layers", 0},
                                       {"attn_output_gate", 0},
                                       {"use_parallel_residual", 0},
                                       {"rotary_pct", 1},
                                       {"alibi", 0},
                                       {"use_bidirectional_attention", 0}};
  for (const auto& [key, neutral] : factors)
    if (!config.off(key, neutral)) config.fail(key, neutral == 0 ? "0, false or none" : "1 or none");

  const auto positions = config.text("position_embedding_type", "rope");
  if (positions != "rope" && positions != "rotary" && positions != "absolute")
    config.fail("position_embedding_type", "rope or absolute");
  const auto rotating = config.integers("no_rope_layers", 0, 1);  // 1: it has a rotation
  if (std::find(rotating.begin(), rotating.end(), 0) != rotating.end() ||
      (rotating.empty() && !config.off("no_rope_layer_interval")))
    config.fail(rotating.empty() ? "no_rope_layer_interval" : "no_rope_layers", "a rotation in every layer");
}

void add_ids(std::vector<std::int32_t>& ids, const std::vector<std::int32_t>& more, std::int32_t vocab) {
  for (const auto id : more)
    if (id >= 0 && id < vocab && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
}

architecture build(const json_object& config) {
  const auto& family = family_of(config.text("model_type"), config.file());
  refuse_unsupported(config);

  architecture a;
  a.model_type = family.model_type;
  read_sizes(a, config, family);
  a.norm = family.norm;
  a.norm_bias = family.norm_bias;
  a.query_key_norm = family.query_key_norm;
  a.gated_mlp = family.gated_mlp;
  a.learned_positions = family.learned_positions;
  a.transposed_linear = family.transposed_linear;
  a.qkv_bias = read_bias(config, family.qkv_bias);
  a.attention_output_bias = read_bias(config, family.attention_output_bias);
  a.mlp_bias = read_bias(config, family.mlp_bias);
  a.act = read_activation(config, family);
  a.tied_head = config.flag("tie_word_embeddings", family.defaults.tied_head);
  a.window = read_windows(config, family, a.layers);
  a.stored_type = read_stored_type(config);
  a.attention_scale = config.flag("scale_attn_weights", true)
                          ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.head_dim)))
                          : 1.0F;
  if (!a.learned_positions) {
    if (a.head_dim % 2 != 0)
      config.fail(config.has("head_dim") ? "head_dim" : family.keys.hidden_size,
                  "heads of an even number of dimensions, not " + std::to_string(a.head_dim));
    const auto rope = read_rope(config, a.max_positions);
    a.rope = make_rope_table(rope, a.head_dim);
    a.rope_text = rope.text();
    a.max_positions = rope.context(a.max_positions);
  }

  const auto bos = config.integers("bos_token_id", -1, most_vocab);
  a.bos_id = bos.empty() ? (config.has_null("bos_token_id") ? -1 : family.defaults.bos_id) : bos.front();
  if (a.bos_id >= a.vocab_size) a.bos_id = -1;
  auto eos = config.integers("eos_token_id", -1, most_vocab);
  if (eos.empty() && !config.has_null("eos_token_id")) eos.push_back(family.defaults.eos_id);
  add_ids(a.eos_ids, eos, a.vocab_size);
  return a;
}

}  // namespace

architecture parse_architecture(std::string_view config_json, const std::string& name) {
  return build(json_object::parse(config_json, name));
}

architecture read_architecture(const std::filesystem::path& config_json) {
  auto a = build(json_object::open(config_json));
  const auto generation = config_json.parent_path() / "generation_config.json";
  std::error_code ec;
  if (std::filesystem::exists(generation, ec))
    add_ids(a.eos_ids, json_object::open(generation).integers("eos_token_id", -1, most_vocab), a.vocab_size);
  return a;
}

}  // namespace fastserve::model
