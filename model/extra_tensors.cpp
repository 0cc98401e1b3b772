#include "model/extra_tensors.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <stdexcept>
#include <vector>

#include "model/text.hpp"

namespace fastserve::model {
namespace {

/// Ends of names: what follows from the configuration, what profilers count, how wide keys and values were
/// when somebody rounded them.
constexpr std::string_view leftovers[] = {
    ".inv_freq",  ".cos_cached",   ".sin_cached",   ".position_ids",     ".masked_bias",
    ".total_ops", ".total_params", ".k_scale",      ".v_scale",          ".q_scale",
    ".kv_scale",  ".prob_scale",   ".output_scale", ".prob_output_scale"};

class extra_tensors {
 public:
  extra_tensors(weight_source& from, const architecture& arch)
      : from_{from},
        arch_{arch},
        names_{names_of(arch.model_type)},
        prefix_{resolve_prefix(from, arch.model_type)},
        layers_{prefix_ + std::string(names_.layers) + "."} {
    for (const auto& spec : tensors_of(arch, whole_range(arch), prefix_)) used_.insert(spec.name);
  }

  void refuse(const std::vector<std::string>& all, const stage_range& range) {
    for (const auto& name : all) {
      if (used_.contains(name) || !belongs(name) || is_leftover(name)) continue;
      if (const auto layer = layer_of(name); layer && *layer < arch_.layers)
        if (*layer < range.first_layer || *layer >= range.last_layer) continue;
      // packers of integers write a bias for every matrix
      if (name.ends_with(".bias") && all_zero(name)) continue;
      throw std::runtime_error(from_.where(name) + ": tensor " + in_quotes(name) +
                               extra_tensor_text(arch_.model_type));
    }
  }

 private:
  /// A part of the model by its name, and not of something that lies beside it.
  bool belongs(std::string_view name) const {
    const auto below = [&](std::string_view prefix, std::string_view module) {
      return !module.empty() && name.starts_with(prefix) &&
             name.substr(prefix.size()).starts_with(std::string(module) + ".");
    };
    if (below("", names_.head)) return true;
    if (!prefix_.empty()) return name.starts_with(prefix_);
    return name.starts_with(layers_) || below("", names_.token_embedding) ||
           below("", names_.position_embedding) || below("", names_.final_norm);
  }

  bool is_leftover(std::string_view name) const {
    if (arch_.tied_head && name == std::string(names_.head) + ".weight") return true;
    // GPT-2's causal mask
    if (names_.fused_qkv == "attn.c_attn" && name.starts_with(layers_) && name.ends_with(".attn.bias"))
      return true;
    return std::any_of(std::begin(leftovers), std::end(leftovers),
                       [&](std::string_view end) { return name.ends_with(end); });
  }

  std::optional<std::int32_t> layer_of(std::string_view name) const {
    if (!name.starts_with(layers_)) return {};
    const auto rest = name.substr(layers_.size());
    std::int32_t layer = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
    if (error != std::errc{} || end == rest.data() + rest.size() || *end != '.' || layer < 0) return {};
    return layer;
  }

  bool all_zero(const std::string& name) {
    const auto about = from_.describe(name);
    if (about.shape.size() != 1) return false;
    const auto values = read_vector(from_, name, about.shape[0]);
    from_.release(name);
    return std::all_of(values.begin(), values.end(), [](float x) { return x == 0.0F; });
  }

  weight_source& from_;
  const architecture& arch_;
  const tensor_names& names_;
  std::string prefix_;
  std::string layers_;  ///< "model.layers."
  std::set<std::string, std::less<>> used_;
};

}  // namespace

std::string extra_tensor_text(std::string_view model_type) {
  return " is none that a " + std::string(model_type) +
         " model has, and would change its answers; give the model its own type, or remove the tensor";
}

void refuse_extra_tensors(weight_source& from, const architecture& arch, const stage_range& range) {
  if (const auto all = from.names(); !all.empty()) extra_tensors(from, arch).refuse(all, range);
}

}  // namespace fastserve::model
