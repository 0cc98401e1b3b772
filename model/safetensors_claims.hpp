#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::model {

/// What a safetensors header says of one tensor: complete in form, not yet judged. Internal to model/.
struct tensor_claim {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;    ///< at most 16 numbers
  std::vector<std::uint64_t> offsets;  ///< at most 16 numbers
};

/// Reads the header's JSON. Memory stays in proportion to its length and depth does not matter, whatever it
/// holds. Throws std::runtime_error with one line that begins with `file`.
std::vector<tensor_claim> read_claims(std::string_view json, const std::string& file);

}  // namespace fastserve::model
