#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/checkpoint_quantization.hpp"
#include "model/safetensors_source.hpp"
#include "model/unpacked_tensors.hpp"

namespace fastserve::model {

/// The weights of a Hugging Face folder of AWQ, GPTQ, compressed-tensors or fp8. A packed matrix goes by the
/// name that it has in the model ("X.weight"), without a second rounding. One whose input features are in the
/// order of GPTQ's act-order comes out of tensor() only, as numbers: its groups are not neighbours.
class quantized_source : public stored_weights {
 public:
  quantized_source(std::filesystem::path folder, const checkpoint_quantization& how);

  bool has(std::string_view name) const override { return inner_.has(name) || !stem_of(name).empty(); }
  std::vector<std::string> names() const override;
  host_tensor tensor(std::string_view name) override;
  host_tensor describe(std::string_view name) override;
  kernels::quantized_tensor quantized(std::string_view name) override;
  std::string where(std::string_view name) const override;
  std::vector<file_part> file_parts(std::string_view name) override;
  std::string fingerprint(std::string_view name) override;
  void release(std::string_view name) override;

  const std::vector<std::filesystem::path>& files() const override { return inner_.files(); }
  std::vector<stored_tensor> all_tensors() override;

 private:
  /// What a packed matrix consists of.
  struct parts {
    raw_tensor codes, scales;
    std::optional<raw_tensor> zeros, order;
    std::int64_t rows = 0, cols = 0;
    std::int64_t groups = 0;  ///< as stored
  };
  /// "X" when "X.weight" is packed here, else "".
  std::string stem_of(std::string_view name) const;
  /// "X.weight" for what a packed matrix consists of, and names as they are.
  std::string whole_name(std::string name) const;
  parts find_parts(const std::string& stem);
  kernels::quantized_tensor unpack(const parts& from, const std::string& stem);
  std::vector<float> numbers_by_order(const parts& from, const std::string& stem);
  bool in_order(const parts& from) const;
  kernels::quantized_format format_of(const parts& from) const;
  [[noreturn]] void fail(const std::string& tensor, const std::string& what);

  safetensors_source inner_;
  checkpoint_quantization how_;
  unpacked_tensors unpacked_;
};

}  // namespace fastserve::model
