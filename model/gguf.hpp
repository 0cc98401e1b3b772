#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/ggml_type.hpp"
#include "model/gguf_metadata.hpp"
#include "model/mapped_file.hpp"

namespace fastserve::model {

/// A tensor of a GGUF file.
struct gguf_tensor {
  std::string_view name;
  const ggml_type* type = nullptr;
  std::vector<std::int64_t> shape;  ///< row-major: [rows, cols], the reverse of the file's order
  std::size_t begin = 0;            ///< bytes from the start of the file
  std::size_t end = 0;
};

/// The header of a GGUF file.
struct gguf_header {
  std::uint32_t version = 0;
  gguf_metadata metadata;
  std::vector<gguf_tensor> tensors;  ///< in order of their names
};

/// Parses the header of a GGUF file, version 2 or 3, little-endian: magic, version, number of tensors and of
/// keys, the key-value pairs, then name, dimensions, type and offset of each tensor.
///
/// Nothing in it is believed: counts and lengths must fit the file, keys and names be unique, types known,
/// dimensions 1 to 4 of at least 1 whose product is whole blocks, the alignment a power of two, offsets
/// aligned, tensors inside the file and without overlap. Touches no byte of the data; the result's texts are
/// views of `file_bytes`. Throws std::runtime_error with one line: file, tensor or key, found, expected.
gguf_header parse_gguf_header(std::span<const std::byte> file_bytes, const std::string& file);

/// A mapped GGUF file.
class gguf_file {
 public:
  explicit gguf_file(const std::filesystem::path& file);

  const std::filesystem::path& path() const { return path_; }
  const gguf_metadata& metadata() const { return header_.metadata; }
  const std::vector<gguf_tensor>& tensors() const { return header_.tensors; }
  /// nullptr when there is none.
  const gguf_tensor* find(std::string_view name) const;
  std::span<const std::byte> bytes(const gguf_tensor& tensor) const {
    return mapping_.bytes().subspan(tensor.begin, tensor.end - tensor.begin);
  }
  const mapped_file& mapping() const { return mapping_; }

 private:
  std::filesystem::path path_;
  mapped_file mapping_;
  gguf_header header_;
};

/// Whether a path names a GGUF file: by its name, or else by its first four bytes.
bool is_gguf(const std::filesystem::path& path);

}  // namespace fastserve::model
