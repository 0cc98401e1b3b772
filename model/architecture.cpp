#include "model/architecture.hpp"

#include "kernels/backend.hpp"
#include "model/tensor_names.hpp"

namespace fastserve::model {
namespace {

std::int64_t parameters_of(const architecture& arch, const stage_range& range) {
  std::int64_t n = 0;
  for (const auto& spec : tensors_of(arch, range, "")) n += spec.elements();
  return n;
}

}  // namespace

double architecture::layer_flops() const {
  const double attention = static_cast<double>(qkv_size()) + query_size();
  const double mlp = (gated_mlp ? 3.0 : 2.0) * intermediate_size;
  return 2.0 * hidden_size * (attention + mlp);
}

std::int64_t architecture::layer_parameters() const { return parameters_of(*this, {0, 1, false, false}); }

std::int64_t architecture::embedding_parameters() const { return parameters_of(*this, {0, 0, true, false}); }

std::int64_t architecture::head_parameters() const {
  const auto all = parameters_of(*this, {0, 0, false, true});
  return tied_head ? all - std::int64_t{vocab_size} * hidden_size : all;
}

std::int64_t architecture::parameters() const {
  return layers * layer_parameters() + embedding_parameters() + head_parameters();
}

std::size_t architecture::kv_token_bytes(kernels::dtype type) const {
  return std::size_t{2} * static_cast<std::size_t>(kv_heads) * kernels::kv_vector_bytes(head_dim, type);
}

}  // namespace fastserve::model
