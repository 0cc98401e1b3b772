#include "launch/model_form.hpp"

namespace fastserve::launch {

actors::model_form form_of(const options& settings, const model::architecture& arch) {
  actors::model_form out;
  out.compute = settings.engine.dtype.value_or(arch.stored_type);
  if (const int bits = settings.engine.quantize_bits; bits != 0) {
    const auto group = settings.engine.quantize_group;
    const auto chosen = group >= 0 ? group : bits == 8 ? 128 : 32;
    out.quantize = {bits, chosen, kernels::zero_kind::none, kernels::dtype::f16};
  }
  out.kv = settings.kv_cache.kv_dtype.value_or(out.compute);
  return out;
}

}  // namespace fastserve::launch
