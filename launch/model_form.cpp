#include "launch/model_form.hpp"

namespace fastserve::launch {

bool makes_weights_up(const options& settings) {
  return !settings.bench.random_weights.empty() &&
         (settings.what == command::bench || settings.what == command::bench_serve ||
          settings.what == command::plan);
}

actors::model_form form_of(const options& settings, const model::architecture& arch) {
  actors::model_form out;
  out.compute = settings.engine.dtype.value_or(arch.stored_type);
  if (const int bits = settings.engine.quantize_bits; bits != 0) {
    const auto group = settings.engine.quantize_group;
    const auto chosen = group >= 0 ? group : bits == 8 ? 128 : 32;
    out.quantize = {bits, chosen, kernels::zero_kind::none, kernels::dtype::f16};
  }
  out.kv = settings.kv_cache.kv_dtype.value_or(out.compute);
  if (!makes_weights_up(settings)) out.stored = model::read_stored_form(settings.model, arch);
  return out;
}

}  // namespace fastserve::launch
