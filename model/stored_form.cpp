#include "model/stored_form.hpp"

#include <algorithm>
#include <initializer_list>
#include <string>

#include "model/checkpoint_quantization.hpp"
#include "model/gguf.hpp"
#include "model/model_folder.hpp"
#include "model/tensor_names.hpp"

namespace fastserve::model {

namespace {

// As model::tensor_loader decides: all matrices of a stack keep their codes, or none does.
std::optional<stored_product> product_of(weight_source& from, bool keeps_fp8,
                                         std::initializer_list<std::string> modules) {
  stored_product out{0, 4};
  double elements = 0;
  for (const auto& module : modules) {
    const auto name = module + ".weight";
    if (!from.has(name)) return {};  // loading will say so
    const auto about = from.describe(name);
    if (!about.quantized || about.shape.size() != 2 || (kernels::is_fp8(*about.quantized) && !keeps_fp8))
      return {};
    const auto size = static_cast<double>(about.shape[0]) * static_cast<double>(about.shape[1]);
    out.bits += size * about.quantized->bits_per_weight(about.shape[1]);
    out.code_bits = std::max(out.code_bits, about.quantized->bits);
    elements += size;
  }
  out.bits /= elements;
  return out;
}

}  // namespace

std::optional<stored_form> read_stored_form(const std::filesystem::path& model, const architecture& arch,
                                            bool keeps_fp8) {
  if (arch.transposed_linear) return {};  // GPT-2's stay numbers
  if (!is_gguf(model) && !read_quantization(json_object::open(model / "config.json"))) return {};
  const auto weights = open_weights(model);
  const auto& names = names_of(arch.model_type);
  const auto prefix = resolve_prefix(*weights, arch.model_type);
  stored_form out;
  for (std::int32_t i = 0; i < arch.layers; ++i) {
    const auto name = [&](std::string_view module) { return layer_name(names, prefix, i, module); };
    auto& l = out.layers.emplace_back();
    l.qkv = names.fused_qkv.empty()
                ? product_of(*weights, keeps_fp8, {name(names.query), name(names.key), name(names.value)})
                : product_of(*weights, keeps_fp8, {name(names.fused_qkv)});
    l.attention_output = product_of(*weights, keeps_fp8, {name(names.attention_output)});
    l.up = arch.gated_mlp ? product_of(*weights, keeps_fp8, {name(names.gate), name(names.up)})
                          : product_of(*weights, keeps_fp8, {name(names.up)});
    l.down = product_of(*weights, keeps_fp8, {name(names.down)});
  }
  out.embedding = product_of(*weights, keeps_fp8, {prefix + std::string(names.token_embedding)});
  out.head = arch.tied_head ? out.embedding : product_of(*weights, keeps_fp8, {std::string(names.head)});
  return out;
}

}  // namespace fastserve::model
