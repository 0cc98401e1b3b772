#include "launch/model_form.hpp"

namespace fastserve::launch {

bool makes_weights_up(const options& settings) {
  return !settings.bench.random_weights.empty() &&
         (settings.what == command::bench || settings.what == command::bench_serve ||
          settings.what == command::plan);
}

actors::model_form form_of(const options& settings, const model::architecture& arch, bool keeps_fp8) {
  actors::model_form out;
  out.compute = settings.engine.dtype.value_or(arch.stored_type);
  const auto& quantize = settings.engine.quantize;
  if (quantize == "fp8") {
    out.quantize = kernels::fp8_rows;
  } else if (quantize != "none") {
    const int bits = quantize == "int8" ? 8 : 4;
    const auto group = settings.engine.quantize_group;
    const auto chosen = group >= 0 ? group : bits == 8 ? 128 : 32;
    out.quantize = {bits, chosen, kernels::zero_kind::none, kernels::dtype::f16};
  }
  out.kv = settings.kv_cache.kv_dtype.value_or(out.compute);
  if (!makes_weights_up(settings)) out.stored = model::read_stored_form(settings.model, arch, keeps_fp8);
  return out;
}

std::string form_objection(const actors::model_form& form, const kernels::backend& on, int rank,
                           const std::string& host) {
  if (!form.quantize || !kernels::is_fp8(*form.quantize) || on.multiplies_fp8()) return {};
  return "--quantize fp8: rank " + std::to_string(rank) + " (" + host + ") computes on " + on.info().name +
         ", which does not multiply fp8; take --quantize int8, or a Hopper GPU (H100, H200) for each rank";
}

}  // namespace fastserve::launch
