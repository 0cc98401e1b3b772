#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/safetensors.hpp"
#include "model/stored_weights.hpp"

namespace fastserve::model {

/// Which shard holds which tensor: model.safetensors.index.json.
/// Shard names must be plain file names (no way out of the folder), tensor names unique.
/// Throws std::runtime_error with one line.
std::unordered_map<std::string, std::string> parse_shard_index(std::string_view json,
                                                               const std::string& file);

/// A tensor of any dtype where it lies.
struct raw_tensor {
  const safetensors_entry* entry = nullptr;
  std::span<const std::byte> bytes;
};

/// The weights of a Hugging Face folder: model.safetensors, or shards by model.safetensors.index.json. All
/// shards must exist; a shard is mapped and its header checked when a tensor of it is first asked for, so
/// that a rank reads only what its layers need.
class safetensors_source : public stored_weights {
 public:
  /// Throws std::runtime_error naming the folder, or the missing shard.
  explicit safetensors_source(std::filesystem::path folder);

  bool has(std::string_view name) const override;
  std::vector<std::string> names() const override;
  host_tensor tensor(std::string_view name) override;
  host_tensor describe(std::string_view name) override;
  std::string where(std::string_view name) const override;
  std::vector<file_part> file_parts(std::string_view name) override;
  void release(std::string_view name) override;

  /// Files of the model, in order of their names.
  const std::vector<std::filesystem::path>& files() const override { return files_; }
  std::vector<stored_tensor> all_tensors() override;
  /// Throws std::runtime_error when there is none.
  raw_tensor raw(std::string_view name);
  /// Every tensor of every file: maps and checks all headers, reads no data.
  std::vector<safetensors_entry> all_entries();

 private:
  struct place {
    safetensors_file* file;
    const safetensors_entry* entry;
  };
  safetensors_file& open(const std::filesystem::path& file);
  place find(std::string_view name);

  std::filesystem::path folder_;
  std::unordered_map<std::string, std::string> shards_;  ///< tensor to file name; empty for a single file
  std::vector<std::filesystem::path> files_;
  std::map<std::filesystem::path, std::unique_ptr<safetensors_file>> open_;
  /// Aligned copies of tensors that the file holds at an address their elements cannot be read from.
  struct aligned_copy {
    std::vector<std::byte> bytes;
    int users = 0;
  };
  std::map<std::string, aligned_copy, std::less<>> realigned_;
};

}  // namespace fastserve::model
