#include "model/rope_config.hpp"

#include <algorithm>
#include <optional>

namespace fastserve::model {
namespace {

rope_settings::scaling read_rope_kind(const json_object& rope) {
  using scaling = rope_settings::scaling;
  const auto key = rope.has("rope_type") ? "rope_type" : "type";
  const auto name = rope.text(key, "default");
  if (name == "default") return scaling::none;
  if (name == "linear") return scaling::linear;
  if (name == "dynamic") return scaling::dynamic;
  if (name == "llama3") return scaling::llama3;
  if (name == "yarn") return scaling::yarn;
  rope.fail(key, "one of: default, linear, dynamic, llama3, yarn");
}

}  // namespace

rope_settings read_rope(const json_object& config, std::int32_t max_positions) {
  const auto empty = json_object::parse("{}", config.file());
  const auto scaling = config.object("rope_scaling");
  const auto parameters = config.object("rope_parameters");
  const auto& rope = scaling ? *scaling : parameters ? *parameters : empty;

  for (const auto* by_layer : {"full_attention", "sliding_attention"})
    if (rope.has(by_layer)) rope.fail(by_layer, "one set of parameters for all layers");
  for (const auto* object : {&config, &rope})
    if (object->number("partial_rotary_factor", 0, 1, 1.0) != 1.0)
      object->fail("partial_rotary_factor", "1 (all dimensions of a head rotate)");
  if (!rope.off("llama_4_scaling_beta")) rope.fail("llama_4_scaling_beta", "0 or none");

  rope_settings s;
  s.kind = read_rope_kind(rope);
  const auto& theta_owner = rope.has("rope_theta")                    ? rope
                            : parameters && !config.has("rope_theta") ? *parameters
                                                                      : config;
  s.theta = theta_owner.number("rope_theta", 1.0, 1e30, 10000.0);
  if (s.kind == rope_settings::scaling::none) return s;

  const auto factor = [&](std::optional<double> fallback) {
    return rope.number("factor", 1.0, 1e6, fallback);
  };
  const auto& original_owner = config.has("original_max_position_embeddings") ? config : rope;
  s.original_positions =
      original_owner.number("original_max_position_embeddings", 1, most_positions, max_positions);
  switch (s.kind) {
    case rope_settings::scaling::none:
      break;
    case rope_settings::scaling::linear:
    case rope_settings::scaling::dynamic:
      s.factor = factor({});
      break;
    case rope_settings::scaling::llama3:
      s.factor = factor({});
      s.low_freq_factor = rope.number("low_freq_factor", 1e-6, 1e6);
      s.high_freq_factor = rope.number("high_freq_factor", 1e-6, 1e6);
      if (s.high_freq_factor <= s.low_freq_factor) rope.fail("high_freq_factor", "more than low_freq_factor");
      break;
    case rope_settings::scaling::yarn:
      // without a factor the two lengths give it, as in DeepSeek's files
      s.factor = factor(std::max(1.0, max_positions / s.original_positions));
      s.beta_fast = rope.number("beta_fast", 1e-6, 1e9, 32.0);
      s.beta_slow = rope.number("beta_slow", 1e-6, 1e9, 1.0);
      s.attention_factor = rope.number("attention_factor", 0.0, 1e6, 0.0);
      s.mscale = rope.number("mscale", 0.0, 1e6, 0.0);
      s.mscale_all_dim = rope.number("mscale_all_dim", 0.0, 1e6, 0.0);
      s.truncate = rope.flag("truncate", true);
      if (s.theta <= 1.0) theta_owner.fail("rope_theta", "more than 1 with yarn");
      break;
  }
  return s;
}

}  // namespace fastserve::model
