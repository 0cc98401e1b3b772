#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.hpp"
#include "model/mapped_file.hpp"

namespace fastserve::model {

/// A tensor of a safetensors file.
struct safetensors_entry {
  std::string name;
  std::string_view dtype;              ///< "F32", "BF16", ...: as the format names it
  std::optional<kernels::dtype> type;  ///< nothing for types that we do not compute with
  std::vector<std::int64_t> shape;     ///< [] is a scalar
  std::size_t begin = 0;               ///< bytes from the start of the file
  std::size_t end = 0;
};

/// Parses the header of a safetensors file: 8 bytes of little-endian header length, a JSON object
/// {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {text: text}}, then the data.
///
/// Nothing in it is believed: the length must fit the file and 100 MB, names be unique, dtypes known, the
/// size of a tensor its shape times its dtype, and the tensors fill the data without overlap, hole or rest,
/// as the format's reference implementation demands. Touches no byte of the data. Entries come sorted by
/// position. Throws std::runtime_error with one line: file, tensor, found, expected.
std::vector<safetensors_entry> parse_safetensors_header(std::span<const std::byte> file_bytes,
                                                        const std::string& file);

/// A mapped safetensors file.
class safetensors_file {
 public:
  explicit safetensors_file(const std::filesystem::path& file);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<safetensors_entry>& entries() const { return entries_; }
  /// nullptr when there is none.
  const safetensors_entry* find(std::string_view name) const;
  std::span<const std::byte> bytes(const safetensors_entry& entry) const {
    return mapping_.bytes().subspan(entry.begin, entry.end - entry.begin);
  }
  const mapped_file& mapping() const { return mapping_; }

 private:
  std::filesystem::path path_;
  mapped_file mapping_;
  std::vector<safetensors_entry> entries_;
  std::vector<std::uint32_t> by_name_;  ///< entries_ in order of their names
};

}  // namespace fastserve::model
