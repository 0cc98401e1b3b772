#include "gguf_of.hpp"

#include <cmath>
#include <string>

#include "model/gguf_names.hpp"

namespace fastserve::model::test {
namespace {

using numbers = std::vector<float>;

numbers numbers_of(weight_source& from, const std::string& name) {
  const auto tensor = from.tensor(name);
  numbers out(tensor.bytes() / kernels::size_of(tensor.type));
  kernels::to_f32(out.data(), tensor.data, tensor.type, out.size());
  from.release(name);
  return out;
}

/// Rows (i, i + dims/2) of every head become neighbours.
numbers interleaved(const numbers& in, std::int64_t heads, std::int64_t head_dim) {
  const auto cols = static_cast<std::int64_t>(in.size()) / (heads * head_dim);
  numbers out(in.size());
  for (std::int64_t h = 0; h < heads; ++h)
    for (std::int64_t d = 0; d < head_dim; ++d) {
      const auto to = h * head_dim + (d < head_dim / 2 ? 2 * d : 2 * (d - head_dim / 2) + 1);
      for (std::int64_t c = 0; c < cols; ++c)
        out[static_cast<std::size_t>(to * cols + c)] =
            in[static_cast<std::size_t>((h * head_dim + d) * cols + c)];
    }
  return out;
}

numbers transposed(const numbers& in, std::int64_t rows, std::int64_t cols) {
  numbers out(in.size());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c)
      out[static_cast<std::size_t>(c * rows + r)] = in[static_cast<std::size_t>(r * cols + c)];
  return out;
}

void write_metadata(gguf_writer& to, const architecture& a, const std::string& kind) {
  const auto key = [&](const char* name) { return kind + "." + name; };
  const auto size = [&](const char* name, std::int32_t n) {
    to.number(key(name), static_cast<std::uint32_t>(n));
  };
  to.text("general.architecture", kind);
  size("embedding_length", a.hidden_size);
  size("block_count", a.layers);
  size("attention.head_count", a.heads);
  size("attention.head_count_kv", a.kv_heads);
  size("attention.key_length", a.head_dim);
  size("attention.value_length", a.head_dim);
  size("feed_forward_length", a.intermediate_size);
  size("context_length", a.max_positions);
  if (!a.window.empty() && a.window.front() > 0) size("attention.sliding_window", a.window.front());
  const bool rms = a.norm == kernels::norm_kind::rms;
  to.number(key(rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"), a.norm_epsilon);
  if (a.bos_id >= 0) to.number("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(a.bos_id));
  if (!a.eos_ids.empty())
    to.number("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(a.eos_ids.front()));
}

/// Any scaling as a tensor of divisors, as Llama 3's comes.
void write_frequencies(gguf_writer& to, const architecture& a) {
  numbers divisors;
  for (std::size_t i = 0; i < a.rope.inverse_frequency.size(); ++i)
    divisors.push_back(static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / a.head_dim) /
                                          static_cast<double>(a.rope.inverse_frequency[i])));
  to.f32_tensor("rope_freqs.weight", {static_cast<std::int64_t>(divisors.size())}, divisors);
}

}  // namespace

gguf_writer gguf_of(model_folder& model) {
  const auto& a = model.arch();
  const auto kind = a.model_type == "mistral" ? "llama" : a.model_type;
  gguf_writer out;
  write_metadata(out, a, kind);
  if (!a.learned_positions) write_frequencies(out, a);

  const auto prefix = resolve_prefix(model.weights(), a.model_type);
  const auto full = std::string(names_of(a.model_type).prefix);
  std::vector<std::pair<std::string, std::string>> names;
  for (const auto& [ours, theirs] : gguf_modules(a.model_type, a.layers))
    for (const auto* suffix : {".weight", ".bias"})
      names.emplace_back((ours.starts_with(full) ? prefix + ours.substr(full.size()) : ours) + suffix,
                         theirs + suffix);
  for (const auto& spec : tensors_of(a, whole_range(a), prefix)) {
    auto values = numbers_of(model.weights(), spec.name);
    auto shape = spec.shape;
    std::string name;
    for (const auto& [ours, theirs] : names)
      if (ours == spec.name) name = theirs;
    const bool is_matrix = name.starts_with("blk") && shape.size() == 2;
    if (a.transposed_linear && is_matrix) {
      values = transposed(values, shape[0], shape[1]);
      std::swap(shape[0], shape[1]);
    }
    if (kind == "llama" && name.find("attn_q.") != name.npos)
      values = interleaved(values, a.heads, a.head_dim);
    if (kind == "llama" && name.find("attn_k.") != name.npos)
      values = interleaved(values, a.kv_heads, a.head_dim);
    out.f32_tensor(name, shape, values);
  }
  return out;
}

}  // namespace fastserve::model::test
