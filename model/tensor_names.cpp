#include "model/tensor_names.hpp"

#include <cassert>

#include "model/model_family.hpp"

namespace fastserve::model {
namespace {

/// Collects specs in reading order.
class spec_list {
 public:
  spec_list(const architecture& arch) : arch_{arch} {}

  void norm(const std::string& name, std::int64_t size, bool bias) {
    add(name + ".weight", {size}, true, true);
    if (bias) add(name + ".bias", {size}, true, false);
  }
  void linear(const std::string& name, std::int64_t out, std::int64_t in, bool bias) {
    if (arch_.transposed_linear) std::swap(out, in);
    add(name + ".weight", {out, in}, false, false);
    if (bias) add(name + ".bias", {arch_.transposed_linear ? in : out}, true, false);
  }
  void table(const std::string& name, std::int64_t rows, std::int64_t cols) {
    add(name + ".weight", {rows, cols}, false, false);
  }
  std::vector<tensor_spec> take() { return std::move(specs_); }

 private:
  void add(std::string name, std::vector<std::int64_t> shape, bool vector, bool gain) {
    specs_.push_back({std::move(name), std::move(shape), vector, gain});
  }

  const architecture& arch_;
  std::vector<tensor_spec> specs_;
};

void add_layer(spec_list& specs, const architecture& a, const tensor_names& n, std::string_view prefix,
               std::int32_t layer) {
  const auto name = [&](std::string_view module) { return layer_name(n, prefix, layer, module); };
  const std::int64_t query = std::int64_t{a.heads} * a.head_dim;
  const std::int64_t kv = std::int64_t{a.kv_heads} * a.head_dim;

  specs.norm(name(n.input_norm), a.hidden_size, a.norm_bias);
  if (!n.fused_qkv.empty()) {
    specs.linear(name(n.fused_qkv), query + 2 * kv, a.hidden_size, a.qkv_bias);
  } else {
    specs.linear(name(n.query), query, a.hidden_size, a.qkv_bias);
    specs.linear(name(n.key), kv, a.hidden_size, a.qkv_bias);
    specs.linear(name(n.value), kv, a.hidden_size, a.qkv_bias);
  }
  if (a.query_key_norm) {
    specs.norm(name(n.query_norm), a.head_dim, false);
    specs.norm(name(n.key_norm), a.head_dim, false);
  }
  specs.linear(name(n.attention_output), a.hidden_size, query, a.attention_output_bias);
  specs.norm(name(n.post_attention_norm), a.hidden_size, a.norm_bias);
  if (a.gated_mlp) specs.linear(name(n.gate), a.intermediate_size, a.hidden_size, a.mlp_bias);
  specs.linear(name(n.up), a.intermediate_size, a.hidden_size, a.mlp_bias);
  specs.linear(name(n.down), a.hidden_size, a.intermediate_size, a.mlp_bias);
}

}  // namespace

std::int64_t tensor_spec::elements() const {
  std::int64_t n = 1;
  for (const auto dim : shape) n *= dim;
  return n;
}

stage_range whole_range(const architecture& arch) { return {0, arch.layers, true, true}; }

std::vector<stage_range> even_ranges(const architecture& arch, std::int32_t stages) {
  assert(stages >= 1 && stages <= arch.layers);
  std::vector<stage_range> out;
  std::int32_t first = 0;
  for (std::int32_t s = 0; s < stages; ++s) {
    const auto count = arch.layers / stages + (s < arch.layers % stages ? 1 : 0);
    out.push_back({first, first + count, s == 0, s == stages - 1});
    first += count;
  }
  return out;
}

std::vector<tensor_spec> tensors_of(const architecture& arch, const stage_range& range,
                                    std::string_view prefix) {
  const auto& n = names_of(arch.model_type);
  const auto name = [&](std::string_view module) { return std::string(prefix) + std::string(module); };
  spec_list specs(arch);
  if (range.embeds || (range.heads && arch.tied_head))
    specs.table(name(n.token_embedding), arch.vocab_size, arch.hidden_size);
  if (range.embeds && arch.learned_positions)
    specs.table(name(n.position_embedding), arch.max_positions, arch.hidden_size);
  for (auto layer = range.first_layer; layer < range.last_layer; ++layer)
    add_layer(specs, arch, n, prefix, layer);
  if (range.heads) {
    specs.norm(name(n.final_norm), arch.hidden_size, arch.norm_bias);
    if (!arch.tied_head) specs.table(std::string(n.head), arch.vocab_size, arch.hidden_size);
  }
  return specs.take();
}

const tensor_names& names_of(std::string_view model_type) { return family_of(model_type, "").names; }

std::string layer_name(const tensor_names& names, std::string_view prefix, std::int32_t layer,
                       std::string_view module) {
  std::string out(prefix);
  out.append(names.layers).append(".").append(std::to_string(layer)).append(".").append(module);
  return out;
}

}  // namespace fastserve::model
