#include "model/model_folder.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "model/tensor_names.hpp"

namespace fastserve::model {
namespace {

bool has_file(const std::filesystem::path& folder, const char* name) {
  std::error_code ec;
  return std::filesystem::is_regular_file(folder / name, ec);
}

std::filesystem::path checked_folder(std::filesystem::path folder) {
  std::error_code ec;
  if (!std::filesystem::is_directory(folder, ec))
    throw std::runtime_error(folder.string() + ": no such folder, expected a model folder with config.json");
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

std::string tokenizer_files(const std::filesystem::path& folder) {
  if (has_file(folder, "tokenizer.json")) return "tokenizer.json";
  if (has_file(folder, "tokenizer.model")) return "tokenizer.model";
  if (has_file(folder, "vocab.json") && has_file(folder, "merges.txt")) return "vocab.json + merges.txt";
  if (has_file(folder, "vocab.txt")) return "vocab.txt";
  return {};
}

model_folder::model_folder(std::filesystem::path folder)
    : path_{checked_folder(std::move(folder))},
      arch_{read_architecture(path_ / "config.json")},
      weights_{std::make_unique<safetensors_source>(path_)} {}

model_description model_folder::describe() {
  const auto prefix = resolve_prefix(*weights_, arch_.model_type);
  std::set<std::string, std::less<>> used;
  for (const auto& spec : tensors_of(arch_, whole_range(arch_), prefix)) {
    check_tensor(*weights_, spec.name, spec.shape);
    used.insert(spec.name);
  }

  model_description d;
  describe_architecture(d, arch_);
  std::map<std::string, model_description::dtype_share> shares;
  sizes stored;
  for (const auto& entry : weights_->all_entries()) {
    const auto bytes = entry.end - entry.begin;
    auto& share = shares[std::string(entry.dtype)];
    share.dtype = entry.dtype;
    ++share.tensors;
    share.bytes += bytes;
    d.weight_file_bytes += bytes;
    stored[entry.name] = bytes;
    if (!used.contains(entry.name)) d.unused.push_back(entry.name);
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
  d.chat_template = has_file(path_, "chat_template.jinja") || has_file(path_, "chat_template.json");
  return d;
}

}  // namespace fastserve::model
