#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "compress/compressor.hpp"
#include "model/tensor_names.hpp"

namespace fastserve::compress {

/// Writes a model folder: model.safetensors as the tensors come, then config.json with "quantization_config"
/// and the other files of the original. The integers are in compressed-tensors' form "pack-quantized", which
/// other servers read too. Throws std::runtime_error naming the file.
class folder_writer : public compressed_sink {
 public:
  /// `to` must not exist or be an empty folder. `dense`: type of matrices without integers.
  folder_writer(std::filesystem::path to, const std::filesystem::path& original,
                const model::architecture& arch, const compress_options& options,
                model::weight_source& source);

  void matrix(std::string_view name, const kernels::quantized_tensor& integers) override;
  void numbers(std::string_view name, const std::vector<std::int64_t>& shape,
               const std::vector<float>& values, bool vector) override;
  void copy(std::string_view name, const model::host_tensor& tensor) override;

  /// All tensors have come: writes the other files. Bytes of weights.
  std::size_t finish();

 private:
  struct planned {
    std::string name, dtype;
    std::vector<std::int64_t> shape;
    std::size_t bytes = 0;
  };
  void plan(const std::string& name, std::string_view dtype, std::vector<std::int64_t> shape,
            std::size_t element_bytes);
  void plan_matrix(const model::tensor_spec& spec);
  void write_header();
  void put(std::string_view name, const void* data, std::size_t bytes);

  std::filesystem::path to_, original_;
  const compress_options& options_;
  kernels::dtype dense_;
  std::vector<planned> plan_;
  std::size_t next_ = 0;
  std::size_t data_bytes_ = 0;
  std::ofstream out_;
};

}  // namespace fastserve::compress
