#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "compress/gram.hpp"
#include "compress/target.hpp"
#include "model/stage.hpp"

namespace fastserve::compress {

/// A layer's products by what they read, in the order in which a token passes them.
enum class product : std::uint8_t { qkv, attention_output, up, down };
constexpr std::size_t products = 4;

/// What a product of the compressed model reads, and how far that is from what the original reads.
struct product_inputs {
  gram seen;
  std::array<drift, 2> off;  ///< over the first half of the sequences, and over the second
};

/// Token sequences on their way through a model and through what is being made of it, side by side, one layer
/// at a time, in f32: only one layer's weights of each are in memory.
class layer_runner {
 public:
  /// Sequences of 1 to max_positions tokens.
  layer_runner(const model::architecture& arch, kernels::backend& on,
               std::vector<std::vector<std::int32_t>> sequences);

  /// Runs the layer with the weights of `original` on the original's hidden states and with those of
  /// `changed` on the compressed model's. What the products in `wanted` see of the latter; how far that is
  /// off for the first of them only, as what comes after it depends on how it is rounded.
  std::array<product_inputs, products> observe(std::int32_t layer, model::weight_source& original,
                                               model::weight_source& changed,
                                               const std::vector<product>& wanted);
  /// The layer is done: the next one starts from what it gives with these weights, and for the original from
  /// what observe() last saw it give.
  void advance(std::int32_t layer, model::weight_source& changed);

 private:
  class walker;
  using hidden_states = std::vector<std::vector<float>>;  ///< of each sequence [tokens, hidden]

  model::architecture arch_;
  kernels::backend& backend_;
  std::unique_ptr<kernels::stream> stream_;
  std::vector<std::vector<std::int32_t>> sequences_;
  hidden_states original_, original_after_, changed_;
};

}  // namespace fastserve::compress
