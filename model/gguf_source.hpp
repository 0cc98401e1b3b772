#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/architecture.hpp"
#include "model/gguf.hpp"
#include "model/stored_weights.hpp"
#include "model/unpacked_tensors.hpp"

namespace fastserve::model {

/// A model in one or several GGUF files ("-00001-of-00003.gguf", any of which may be given): its metadata is
/// the first file's, its tensors are those of all. Throws std::runtime_error with one line.
std::vector<std::unique_ptr<gguf_file>> open_gguf(const std::filesystem::path& file);

/// What the metadata and the tensors of a GGUF model say of it. Llama's files hold query and key rows in the
/// order of an interleaved rotation; the result says so, hence nothing is permuted back.
/// Throws std::runtime_error with one line: file, key or tensor, found, expected.
architecture gguf_architecture(const std::vector<std::unique_ptr<gguf_file>>& files);

/// The weights of a GGUF model under the names that Hugging Face gives them, so that the rest of the program
/// sees no difference. Blocks of integers come out as quantized() without a second rounding, and as f32 from
/// tensor().
class gguf_source : public stored_weights {
 public:
  /// Throws std::runtime_error with one line, also for a tensor that the model has no use for: in these files
  /// the tensors are the configuration.
  explicit gguf_source(const std::filesystem::path& file);

  const architecture& arch() const { return arch_; }
  const gguf_metadata& metadata() const { return files_.front()->metadata(); }

  bool has(std::string_view name) const override { return places_.contains(std::string(name)); }
  host_tensor tensor(std::string_view name) override;
  host_tensor describe(std::string_view name) override;
  kernels::quantized_tensor quantized(std::string_view name) override;
  std::string where(std::string_view name) const override;
  std::string_view described_by() const override { return "the file's metadata"; }
  std::vector<file_part> file_parts(std::string_view name) override;
  void release(std::string_view name) override;

  const std::vector<std::filesystem::path>& files() const override { return paths_; }
  std::vector<stored_tensor> all_tensors() override;

 private:
  struct place {
    const gguf_file* file;
    const gguf_tensor* tensor;
  };
  const place& find(std::string_view name) const;
  void refuse_extra_tensors() const;

  std::vector<std::unique_ptr<gguf_file>> files_;
  std::vector<std::filesystem::path> paths_;
  architecture arch_;
  std::unordered_map<std::string, place> places_;  ///< by Hugging Face name
  unpacked_tensors unpacked_;
};

}  // namespace fastserve::model
