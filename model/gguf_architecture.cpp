// Metadata of a GGUF file to an architecture. Keys as in the format's specification; what they mean for a
// model type is the row of model_family.cpp, as for config.json.

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>
#include <stdexcept>

#include "model/gguf_names.hpp"
#include "model/gguf_source.hpp"
#include "model/model_family.hpp"
#include "model/rope.hpp"
#include "model/size_limits.hpp"
#include "model/text.hpp"

namespace fastserve::model {
namespace {

/// Tokens that end an answer whatever their model calls the end of a text: chat files name only one of them.
constexpr std::string_view end_tokens[] = {"<|eot_id|>",    "<|eom_id|>",      "<|im_end|>",    "<|end|>",
                                           "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<|eot|>"};
constexpr std::int32_t control_token = 3;  // of tokenizer.ggml.token_type

class gguf_reader {
 public:
  explicit gguf_reader(const std::vector<std::unique_ptr<gguf_file>>& files)
      : files_{files}, data_{files.front()->metadata()}, kind_{data_.text("general.architecture")} {}

  architecture read() {
    if (kind_ != "llama" && kind_ != "qwen2" && kind_ != "qwen3" && kind_ != "gpt2")
      data_.fail("general.architecture", "one of: llama, qwen2, qwen3, gpt2");
    refuse_unsupported();
    const auto& family = family_of(kind_, data_.file());
    architecture a;
    a.model_type = family.model_type;
    a.norm = family.norm;
    a.norm_bias = family.norm_bias;
    a.query_key_norm = family.query_key_norm;
    a.gated_mlp = family.gated_mlp;
    a.learned_positions = family.learned_positions;
    a.act = kind_ == "gpt2" ? kernels::activation::gelu_tanh : kernels::activation::silu;
    read_sizes(a);
    // one is enough: that all others are there is checked as for every tensor
    a.qkv_bias = has_bias({"attn_q", "attn_k", "attn_v", "attn_qkv"});
    a.attention_output_bias = has_bias({"attn_output"});
    a.mlp_bias = has_bias({"ffn_gate", "ffn_up", "ffn_down"});
    a.tied_head = find("output.weight") == nullptr;
    a.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.head_dim)));
    a.window.assign(static_cast<std::size_t>(a.layers),
                    data_.integer32(key("attention.sliding_window"), 0, most_positions, 0));
    a.stored_type = stored_type();
    if (!a.learned_positions) read_rope(a);
    read_ends(a);
    return a;
  }

 private:
  std::string key(std::string_view name) const { return kind_ + "." + std::string(name); }

  /// A tensor of any of the files.
  const gguf_tensor* find(std::string_view name, const gguf_file** owner = nullptr) const {
    for (const auto& file : files_)
      if (const auto* tensor = file->find(name)) {
        if (owner != nullptr) *owner = file.get();
        return tensor;
      }
    return nullptr;
  }

  /// Some layer has a bias of one of these modules.
  bool has_bias(std::initializer_list<std::string_view> modules) const {
    for (const auto& file : files_)
      for (const auto& tensor : file->tensors())
        for (const auto module : modules)
          if (tensor.name.starts_with("blk.") && tensor.name.ends_with("." + std::string(module) + ".bias"))
            return true;
    return false;
  }

  /// What changes the arithmetic in ways that we do not have.
  void refuse_unsupported() const {
    for (const auto* name : {"expert_count", "attention.kv_lora_rank", "ssm.state_size"})
      if (data_.has(key(name)) && data_.integer(key(name), 0, 1 << 20) != 0)
        data_.fail(key(name), "0 or none");
    for (const auto* name : {"logit_scale", "residual_scale", "embedding_scale"})
      if (data_.number(key(name), -1e30, 1e30, 0.0) != 0.0 && data_.number(key(name), -1e30, 1e30) != 1.0)
        data_.fail(key(name), "1 or none");
    for (const auto* name :
         {"attention.scale", "attention.output_scale", "attention.clamp_kqv", "attention.max_alibi_bias",
          "attention.temperature_scale", "attn_logit_softcapping", "final_logit_softcapping",
          "rope.scaling.yarn_log_multiplier"})
      if (data_.number(key(name), -1e30, 1e30, 0.0) != 0.0) data_.fail(key(name), "0 or none");
    if (data_.number(key("rope.scaling.yarn_attn_factor"), -1e30, 1e30, 1.0) != 1.0)
      data_.fail(key("rope.scaling.yarn_attn_factor"), "1 or none");
    if (data_.flag(key("use_parallel_residual"), false)) data_.fail(key("use_parallel_residual"), "false");
    if (!data_.flag(key("attention.causal"), true)) data_.fail(key("attention.causal"), "true");
    for (const auto* name : {"attention.sliding_window_pattern", "rope.freq_base_swa"})
      if (data_.has(key(name)) && data_.integer(key("attention.sliding_window"), 0, 1 << 30, 0) != 0)
        data_.fail(key(name), "none, as all layers are alike");
    if (data_.has("adapter.type")) data_.fail("adapter.type", "a model and not an adapter");
  }

  void read_sizes(architecture& a) const {
    const auto* embedding = find("token_embd.weight");
    if (embedding == nullptr)
      throw std::runtime_error(data_.file() +
                               ": tensor 'token_embd.weight' is missing, expected in every model "
                               "(a file of a vocabulary alone?)");
    a.hidden_size = data_.integer32(key("embedding_length"), 1, most_hidden);
    if (embedding->shape.size() != 2 || embedding->shape[0] > most_vocab)
      throw std::runtime_error(data_.file() + ": tensor 'token_embd.weight': shape is " +
                               shape_text(embedding->shape) + ", expected [vocabulary, " +
                               std::to_string(a.hidden_size) + "]");
    a.vocab_size = static_cast<std::int32_t>(embedding->shape[0]);
    a.layers = data_.integer32(key("block_count"), 1, most_layers);
    a.heads = data_.integer32(key("attention.head_count"), 1, most_heads);
    a.kv_heads = data_.integer32(key("attention.head_count_kv"), 1, most_heads, a.heads);
    if (a.heads % a.kv_heads != 0)
      data_.fail(key("attention.head_count_kv"),
                 "a divisor of " + key("attention.head_count") + " " + std::to_string(a.heads));
    if (data_.has(key("attention.key_length"))) {
      a.head_dim = data_.integer32(key("attention.key_length"), 1, most_head_dim);
    } else {
      if (a.hidden_size % a.heads != 0 || a.hidden_size / a.heads > most_head_dim)
        data_.fail(key("embedding_length"), "a multiple of " + key("attention.head_count") + " " +
                                                std::to_string(a.heads) + ", or " +
                                                key("attention.key_length"));
      a.head_dim = a.hidden_size / a.heads;
    }
    if (data_.integer32(key("attention.value_length"), 1, most_head_dim, a.head_dim) != a.head_dim)
      data_.fail(key("attention.value_length"), "as long as keys, " + std::to_string(a.head_dim));
    a.intermediate_size = data_.integer32(key("feed_forward_length"), 1, most_intermediate);
    a.max_positions = data_.integer32(key("context_length"), 1, most_positions);
    a.norm_epsilon = static_cast<float>(
        data_.number(key(a.norm == kernels::norm_kind::rms ? "attention.layer_norm_rms_epsilon"
                                                           : "attention.layer_norm_epsilon"),
                     0.0, 1.0));
  }

  void read_rope(architecture& a) const {
    if (a.head_dim % 2 != 0) data_.fail(key("embedding_length"), "heads of an even number of dimensions");
    if (data_.integer32(key("rope.dimension_count"), 1, most_head_dim, a.head_dim) != a.head_dim)
      data_.fail(key("rope.dimension_count"), "all dimensions of a head, " + std::to_string(a.head_dim));
    rope_settings rope;
    rope.theta = data_.number(key("rope.freq_base"), 1.0, 1e30, 10000.0);
    const auto type = data_.text(key("rope.scaling.type"), "none");
    const auto old_factor = data_.number(key("rope.scale_linear"), 1e-6, 1e6, 1.0);
    rope.factor = data_.number(key("rope.scaling.factor"), 0.0, 1e6, old_factor);
    if (rope.factor == 0.0) rope.factor = 1.0;  // what converters write for "none"
    if (rope.factor < 1.0) data_.fail(key("rope.scaling.factor"), "1 or more");
    if (type == "linear" ||
        (type == "none" && rope.factor != 1.0 && !data_.has(key("rope.scaling.factor")))) {
      rope.kind = rope_settings::scaling::linear;
    } else if (type == "yarn") {
      rope.kind = rope_settings::scaling::yarn;
      rope.original_positions =
          data_.number(key("rope.scaling.original_context_length"), 1, most_positions, a.max_positions);
      rope.beta_fast = data_.number(key("rope.scaling.yarn_beta_fast"), 1e-6, 1e9, 32.0);
      rope.beta_slow = data_.number(key("rope.scaling.yarn_beta_slow"), 1e-6, 1e9, 1.0);
      // the file's factor is on top of what the length's factor gives
      const auto on_top = data_.number(key("rope.scaling.attn_factor"), 0.0, 1e6, 1.0);
      if (on_top != 1.0) rope.attention_factor = on_top * (0.1 * std::log(rope.factor) + 1.0);
      if (rope.theta <= 1.0) data_.fail(key("rope.freq_base"), "more than 1 with yarn");
    } else if (type != "none") {
      data_.fail(key("rope.scaling.type"), "one of: none, linear, yarn");
    }
    a.rope = make_rope_table(rope, a.head_dim);
    a.rope_text = rope.text();
    a.max_positions = rope.context(a.max_positions);
    if (kind_ == "llama") a.rope.kind = kernels::rope_kind::interleaved;
    divide_frequencies(a);
  }

  /// Llama 3's scaling comes as a tensor of divisors.
  void divide_frequencies(architecture& a) const {
    const gguf_file* owner = nullptr;
    const auto* factors = find("rope_freqs.weight", &owner);
    if (factors == nullptr) return;
    auto& frequencies = a.rope.inverse_frequency;
    const auto refuse = [&](const std::string& what) {
      throw std::runtime_error(owner->path().string() + ": tensor 'rope_freqs.weight': " + what);
    };
    if (factors->type->plain != kernels::dtype::f32 || factors->shape.size() != 1 ||
        factors->shape[0] != static_cast<std::int64_t>(frequencies.size()))
      refuse(std::string(factors->type->name) + " " + shape_text(factors->shape) + ", expected F32 [" +
             std::to_string(frequencies.size()) + "]");
    std::vector<float> divisors(frequencies.size());
    kernels::to_f32(divisors.data(), owner->bytes(*factors).data(), kernels::dtype::f32, divisors.size());
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
      if (!(divisors[i] >= 1e-6F && divisors[i] <= 1e6F))
        refuse("holds a divisor that is not in [1e-6, 1e6]");
      frequencies[i] /= divisors[i];
    }
    a.rope_text += ", divisors by frequency";
  }

  /// The type of numbers that most bytes have; integers work with f16.
  kernels::dtype stored_type() const {
    std::map<kernels::dtype, std::size_t> bytes;
    for (const auto& file : files_)
      for (const auto& tensor : file->tensors())
        if (tensor.shape.size() > 1)
          bytes[tensor.type->plain.value_or(kernels::dtype::f16)] += tensor.end - tensor.begin;
    if (bytes.empty()) return kernels::dtype::f32;
    return std::max_element(bytes.begin(), bytes.end(),
                            [](const auto& x, const auto& y) { return x.second < y.second; })
        ->first;
  }

  void read_ends(architecture& a) const {
    constexpr std::int64_t any = 0xFFFFFFFF;  // what some converters write for none
    const auto id = [&](const char* name) {
      const auto value = data_.integer(name, -1, any, -1);
      return value >= 0 && value < a.vocab_size ? static_cast<std::int32_t>(value) : -1;
    };
    a.bos_id = id("tokenizer.ggml.bos_token_id");
    const auto end = [&](std::int32_t value) {
      if (value >= 0 && std::find(a.eos_ids.begin(), a.eos_ids.end(), value) == a.eos_ids.end())
        a.eos_ids.push_back(value);
    };
    for (const auto* name :
         {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
      end(id(name));
    const auto tokens = data_.texts("tokenizer.ggml.tokens");
    const auto types = data_.integers("tokenizer.ggml.token_type");
    const auto count = std::min({tokens.size(), types.size(), static_cast<std::size_t>(a.vocab_size)});
    for (std::size_t i = 0; i < count; ++i)
      if (types[i] == control_token &&
          std::find(std::begin(end_tokens), std::end(end_tokens), tokens[i]) != std::end(end_tokens))
        end(static_cast<std::int32_t>(i));
  }

  const std::vector<std::unique_ptr<gguf_file>>& files_;
  const gguf_metadata& data_;
  std::string kind_;
};

}  // namespace

architecture gguf_architecture(const std::vector<std::unique_ptr<gguf_file>>& files) {
  return gguf_reader(files).read();
}

}  // namespace fastserve::model
