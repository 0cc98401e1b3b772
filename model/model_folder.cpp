#include "model/model_folder.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "model/extra_tensors.hpp"
#include "model/gguf_source.hpp"
#include "model/gguf_tokenizer.hpp"
#include "model/quantized_source.hpp"
#include "model/safetensors_source.hpp"
#include "model/tensor_names.hpp"

namespace fastserve::model {
namespace {

bool has_file(const std::filesystem::path& folder, const char* name) {
  std::error_code ec;
  return std::filesystem::is_regular_file(folder / name, ec);
}

std::filesystem::path checked_folder(const std::filesystem::path& folder) {
  std::error_code ec;
  if (!std::filesystem::is_directory(folder, ec))
    throw std::runtime_error(folder.string() +
                             ": no such model, expected a folder with config.json or a GGUF file");
  return folder;
}

std::string activation_name(kernels::activation act) {
  switch (act) {
    case kernels::activation::silu:
      return "silu";
    case kernels::activation::gelu:
      return "gelu";
    case kernels::activation::gelu_tanh:
      return "gelu (tanh)";
    case kernels::activation::relu:
      return "relu";
  }
  return "?";
}

/// Bytes by tensor name.
using sizes = std::map<std::string, std::size_t, std::less<>>;

std::size_t range_bytes(const architecture& arch, const stage_range& range, const std::string& prefix,
                        const sizes& stored) {
  std::size_t n = 0;
  for (const auto& spec : tensors_of(arch, range, prefix))
    if (const auto it = stored.find(spec.name); it != stored.end()) n += it->second;
  return n;
}

void describe_architecture(model_description& d, const architecture& a) {
  d.model_type = a.model_type;
  d.parameters = a.parameters();
  d.layer_parameters = a.layer_parameters();
  d.embedding_parameters = a.embedding_parameters();
  d.head_parameters = a.head_parameters();
  d.layers = a.layers;
  d.hidden_size = a.hidden_size;
  d.intermediate_size = a.intermediate_size;
  d.heads = a.heads;
  d.kv_heads = a.kv_heads;
  d.head_dim = a.head_dim;
  d.vocab_size = a.vocab_size;
  d.context_tokens = a.max_positions;
  d.tied_head = a.tied_head;
  d.query_key_norm = a.query_key_norm;
  d.qkv_bias = a.qkv_bias;
  d.gated_mlp = a.gated_mlp;
  d.norm = a.norm == kernels::norm_kind::rms ? "RMSNorm" : "LayerNorm";
  d.activation = activation_name(a.act);
  d.positions = a.learned_positions ? "learned" : "rope " + a.rope_text;
  for (const auto window : a.window) {
    if (window == 0) continue;
    ++d.window_layers;
    d.window_tokens = d.window_tokens == 0 ? window : std::min(d.window_tokens, window);
  }
  d.bos_id = a.bos_id;
  d.eos_ids = a.eos_ids;
  const auto layers = static_cast<std::size_t>(a.layers);
  d.kv_token_bytes_f32 = layers * a.kv_token_bytes(kernels::dtype::f32);
  d.kv_token_bytes_16bit = layers * a.kv_token_bytes(kernels::dtype::bf16);
}

}  // namespace

architecture read_model(const std::filesystem::path& model) {
  if (is_gguf(model)) return gguf_architecture(open_gguf(model));
  return read_architecture(checked_folder(model) / "config.json");
}

std::unique_ptr<stored_weights> open_weights(const std::filesystem::path& model) {
  if (is_gguf(model)) return std::make_unique<gguf_source>(model);
  const auto quantization = read_quantization(json_object::open(checked_folder(model) / "config.json"));
  if (quantization) return std::make_unique<quantized_source>(model, *quantization);
  return std::make_unique<safetensors_source>(model);
}

std::unique_ptr<tokenizer> open_tokenizer(const std::filesystem::path& model) {
  if (is_gguf(model)) return gguf_tokenizer(gguf_file(model));
  return tokenizer_files(model).empty() ? nullptr : load_tokenizer(model);
}

std::string tokenizer_files(const std::filesystem::path& model) {
  if (is_gguf(model)) return gguf_file(model).metadata().has("tokenizer.ggml.tokens") ? "GGUF metadata" : "";
  if (has_file(model, "tokenizer.json")) return "tokenizer.json";
  if (has_file(model, "tokenizer.model")) return "tokenizer.model";
  if (has_file(model, "vocab.json") && has_file(model, "merges.txt")) return "vocab.json + merges.txt";
  if (has_file(model, "vocab.txt")) return "vocab.txt";
  return {};
}

model_folder::model_folder(std::filesystem::path model)
    : path_{std::move(model)}, arch_{read_model(path_)}, weights_{open_weights(path_)} {}

model_description model_folder::describe() {
  const auto prefix = resolve_prefix(*weights_, arch_.model_type);
  std::set<std::string, std::less<>> used;
  for (const auto& spec : tensors_of(arch_, whole_range(arch_), prefix)) {
    check_tensor(*weights_, spec.name, spec.shape);
    used.insert(spec.name);
  }

  refuse_extra_tensors(*weights_, arch_, whole_range(arch_));

  model_description d;
  describe_architecture(d, arch_);
  std::map<std::string, model_description::dtype_share> shares;
  sizes stored;
  for (const auto& tensor : weights_->all_tensors()) {
    auto& share = shares[tensor.type];
    share.dtype = tensor.type;
    ++share.tensors;
    share.bytes += tensor.bytes;
    d.weight_file_bytes += tensor.bytes;
    stored[tensor.name] += tensor.bytes;
    if (!used.contains(tensor.name)) d.unused.push_back(tensor.name);
  }
  for (auto& [name, share] : shares) d.dtypes.push_back(std::move(share));
  d.files = static_cast<std::int32_t>(weights_->files().size());
  d.layer_bytes = range_bytes(arch_, {0, 1, false, false}, prefix, stored);
  for (std::int32_t n = 1; n <= std::min(arch_.layers, 64); n *= 2) {
    std::size_t largest = 0;
    for (const auto& range : even_ranges(arch_, n))
      largest = std::max(largest, range_bytes(arch_, range, prefix, stored));
    d.stage_bytes.emplace_back(n, largest);
  }
  d.tokenizer = tokenizer_files(path_);
  d.chat_template = is_gguf(path_)
                        ? gguf_file(path_).metadata().has("tokenizer.chat_template")
                        : has_file(path_, "chat_template.jinja") || has_file(path_, "chat_template.json");
  return d;
}

}  // namespace fastserve::model
