#pragma once

#include <cstdint>
#include <optional>

#include "kernels/quantized.hpp"
#include "model/json_object.hpp"

namespace fastserve::model {

/// How a Hugging Face folder keeps its quantized matrices: config.json's "quantization_config".
struct checkpoint_quantization {
  enum class packing : std::uint8_t {
    awq,        ///< AutoAWQ, version "gemm": X.qweight, X.qzeros, X.scales
    gptq,       ///< AutoGPTQ, GPTQModel: the same names, other order, X.g_idx
    compressed  ///< compressed-tensors: X.weight_packed, or X.weight of int8 or e4m3, X.weight_scale; "fp8"
                ///< of vLLM and AutoFP8 is the same
  };
  packing how = packing::awq;
  int bits = 4;            ///< 4 or 8
  std::int32_t group = 0;  ///< input features that share a scale, 0 = the whole row; perhaps more than 128
  bool symmetric = false;  ///< compressed: codes are signed and there are no zeros
  kernels::code_kind codes = kernels::code_kind::integer;  ///< e4m3: a scale a row or one for all of them
  bool ordered = false;                                    ///< the order of input features must be stored
  bool zeros_less_one = false;                             ///< gptq: stored zeros are one too small

  /// The group of the unpacked form: larger ones are cut, their scales repeated.
  std::int32_t unpacked_group() const { return group > 128 ? 128 : group; }
};

/// Reads "quantization_config"; nothing when there is none. Throws std::runtime_error with one line for what
/// is neither integers of 4 or 8 bits nor e4m3. What it says of activations is not asked: rows are rounded by
/// scales of their own, of 128 columns each, which are no coarser than "dynamic" ones and fit better than
/// "static" ones.
std::optional<checkpoint_quantization> read_quantization(const json_object& config);

}  // namespace fastserve::model
