#include "model/weight_source.hpp"

#include <stdexcept>

#include "model/tensor_names.hpp"
#include "model/text.hpp"

namespace fastserve::model {

std::size_t host_tensor::bytes() const {
  auto n = kernels::size_of(type);
  for (const auto dim : shape) n *= static_cast<std::size_t>(dim);
  return n;
}

kernels::quantized_tensor weight_source::quantized(std::string_view name) {
  throw std::runtime_error(where(name) + ": tensor " + in_quotes(name) + " is not quantized");
}

std::string weight_source::fingerprint(std::string_view name) {
  const auto about = describe(name);
  const auto where_it_lies = file_parts(name);
  if (where_it_lies.empty()) return {};
  std::string out = std::string(kernels::name_of(about.type)) + ' ' + shape_text(about.shape);
  if (about.quantized) out += ' ' + kernels::to_string(*about.quantized);
  for (const auto& part : where_it_lies) out += "; " + fingerprint_of(part);
  return out;
}

void check_tensor(weight_source& from, std::string_view name, const std::vector<std::int64_t>& shape) {
  const auto tensor = from.describe(name);
  if (tensor.shape != shape)
    throw std::runtime_error(from.where(name) + ": tensor " + in_quotes(name) + ": shape is " +
                             shape_text(tensor.shape) + ", expected " + shape_text(shape) + " by " +
                             std::string(from.described_by()));
}

host_tensor read_tensor(weight_source& from, std::string_view name, const std::vector<std::int64_t>& shape) {
  check_tensor(from, name, shape);
  return from.tensor(name);
}

kernels::host_matrix read_matrix(weight_source& from, std::string_view name, std::int64_t rows,
                                 std::int64_t cols, bool transposed) {
  using dims = std::vector<std::int64_t>;
  const auto tensor = read_tensor(from, name, transposed ? dims{cols, rows} : dims{rows, cols});
  return {tensor.data, tensor.type, rows, cols, transposed};
}

std::vector<float> read_vector(weight_source& from, std::string_view name, std::int64_t size) {
  const auto tensor = read_tensor(from, name, {size});
  std::vector<float> out(static_cast<std::size_t>(size));
  kernels::to_f32(out.data(), tensor.data, tensor.type, out.size());
  return out;
}

std::string resolve_prefix(const weight_source& from, std::string_view model_type) {
  const auto& names = names_of(model_type);
  const auto bare = std::string(names.token_embedding) + ".weight";
  const auto full = std::string(names.prefix) + bare;
  if (from.has(full)) return std::string(names.prefix);
  if (from.has(bare)) return "";
  throw std::runtime_error(from.where(full) + ": tensor " + in_quotes(full) +
                           " is missing, expected in every " + std::string(model_type) + " model");
}

}  // namespace fastserve::model
