#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "model/architecture.hpp"

namespace fastserve::model {

/// A product's matrix that is loaded as the integers, or the fp8 codes, that the files hold.
struct stored_product {
  double bits = 0;    ///< of a weight, scales and zeros included; mean over the stacked matrices
  int code_bits = 8;  ///< 8 or 4, the larger one of the stacked matrices
};

/// Which matrices of a model stay integers, whatever numbers are rounded to. Empty members: numbers.
struct stored_form {
  struct layer {
    std::optional<stored_product> qkv, attention_output, up, down;
  };
  std::vector<layer> layers;
  std::optional<stored_product> embedding, head;
};

/// Reads headers only. Nothing for a model whose files hold only numbers. `keeps_fp8`: whether fp8 codes are
/// loaded as they are (backend::multiplies_fp8()), or as numbers. Throws std::runtime_error as open_weights()
/// does.
std::optional<stored_form> read_stored_form(const std::filesystem::path& model, const architecture& arch,
                                            bool keeps_fp8);

}  // namespace fastserve::model
