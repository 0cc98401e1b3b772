#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.hpp"
#include "model/tensor_names.hpp"

namespace fastserve::model::test {

/// Length, header, data: a safetensors file, or something that claims to be one.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
  std::string out;
  for (unsigned i = 0; i < 8; ++i) out += static_cast<char>(header.size() >> (8 * i));
  out += header;
  out += data;
  return out;
}

/// A file with these tensors; value i of a tensor is i % 7 - 3, or 1 for a norm's gain.
inline std::string safetensors_of(const std::vector<tensor_spec>& specs, kernels::dtype type,
                                  std::size_t header_padding = 0) {
  const char* name = type == kernels::dtype::f32 ? "F32" : type == kernels::dtype::f16 ? "F16" : "BF16";
  std::string header = "{";
  std::string data;
  for (const auto& spec : specs) {
    const auto count = static_cast<std::size_t>(spec.elements());
    std::vector<float> values(count, 1.0F);
    if (!spec.gain)
      for (std::size_t i = 0; i < count; ++i)
        values[i] = static_cast<float>(static_cast<int>(i % 7) - 3) * 0.05F;
    const auto begin = data.size();
    data.resize(begin + count * kernels::size_of(type));
    kernels::from_f32(data.data() + begin, type, values.data(), count);
    if (header.size() > 1) header += ',';
    header.append("\"").append(spec.name).append(R"(":{"dtype":")").append(name).append(R"(","shape":[)");
    for (std::size_t i = 0; i < spec.shape.size(); ++i) {
      if (i > 0) header += ',';
      header += std::to_string(spec.shape[i]);
    }
    header.append(R"(],"data_offsets":[)").append(std::to_string(begin)).append(",");
    header.append(std::to_string(data.size())).append("]}");
  }
  header += "}";
  header += std::string((8 - header.size() % 8) % 8 + header_padding, ' ');
  return safetensors_bytes(header, data);
}

}  // namespace fastserve::model::test
