#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "compress/gram.hpp"
#include "model/stage.hpp"

namespace fastserve::compress {

/// Inputs of a layer's four products.
struct layer_inputs {
  gram qkv, attention_output, up, down;
};

/// Token sequences on their way through a model, one layer at a time, in f32: only one layer's weights are in
/// memory.
class layer_runner {
 public:
  /// Sequences of 1 to max_positions tokens.
  layer_runner(const model::architecture& arch, kernels::backend& on,
               std::vector<std::vector<std::int32_t>> sequences);

  /// Runs the layer with the weights of `source` on what the layers before left (advance()). With `inputs`,
  /// adds up what its products see.
  void run(std::int32_t layer, model::weight_source& source, layer_inputs* inputs);
  /// The last run() was the final one of its layer: the next layer starts from its output.
  void advance();

 private:
  model::architecture arch_;
  kernels::backend& backend_;
  std::unique_ptr<kernels::stream> stream_;
  std::vector<std::vector<std::int32_t>> sequences_;
  std::vector<std::vector<float>> before_, after_;  ///< hidden states of each sequence [tokens, hidden]
};

}  // namespace fastserve::compress
