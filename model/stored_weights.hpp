#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "model/weight_source.hpp"

namespace fastserve::model {

/// A tensor as its file has it.
struct stored_tensor {
  std::string name;  ///< as weight_source calls it where the model uses it, else the file's own name
  std::string type;  ///< as the format calls it: "BF16", "Q4_K"
  std::size_t bytes = 0;
};

/// Weights that lie in files.
class stored_weights : public weight_source {
 public:
  virtual const std::vector<std::filesystem::path>& files() const = 0;
  /// Every tensor of every file: reads and checks all headers, no data.
  virtual std::vector<stored_tensor> all_tensors() = 0;
};

}  // namespace fastserve::model
