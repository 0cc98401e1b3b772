#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace fastserve::planner {

/// What a product computes with; each has a rate of its own on a rank.
enum class arithmetic : std::uint8_t { f32, f16, bf16, int8, int4 };
inline constexpr std::size_t arithmetics = 5;
std::string_view name_of(arithmetic a) noexcept;

/// A matrix product: 2 operations a parameter and row; a step reads the weights once, however many rows.
struct product_work {
  double parameters = 0;
  double bytes = 0;  ///< of weights, scales included
  arithmetic as = arithmetic::f32;
};

/// One layer of a decoder.
struct layer_work {
  std::vector<product_work> products;
  double attention_ops = 0;  ///< of a row and a position it attends to: scores and weighted sum
  double kv_bytes = 0;       ///< keys and values of a token, in memory
  double window = 0;         ///< most positions attended to, mean over the layers; 0 = all
  double elements = 0;       ///< of a row that operations between the products read and write
  double operations = 0;     ///< between which all threads wait for each other
};

/// A model as the planner sees it: a chain of equal layers between an embedding and a head.
struct model_work {
  std::int32_t layers = 0;
  layer_work layer;
  product_work head;  ///< computed for the rows that draw
  double hidden = 0;  ///< width of the activations that travel, in f32
  double vocab = 0;   ///< logits to draw from
  double layer_bytes = 0;
  double embedding_bytes = 0;
  double head_bytes = 0;

  double bytes() const { return layers * layer_bytes + embedding_bytes + head_bytes; }
  double hop_bytes(double rows) const { return 4 * hidden * rows; }
};

}  // namespace fastserve::planner
