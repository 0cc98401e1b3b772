#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "model/sampler.hpp"

namespace fastserve::model {

/// A token to draw: what sample() wants to know besides the logits.
struct draw_request {
  const sampling_params* how;
  std::uint64_t position;
  std::int32_t row;  ///< of the step's logits; several requests may share one
  std::span<const std::int32_t> prompt;
  std::span<const std::int32_t> answer;
};

/// Draws the tokens of a step: on the device where that can, so that its logits stay there, and by the
/// host's threads where it cannot or where penalties or log-probabilities are asked for. Either way the
/// tokens are sample()'s.
class token_drawer {
 public:
  explicit token_drawer(kernels::backend& backend);

  /// One token a request; valid until the next call. logits: f32 [rows, vocabulary], contiguous.
  std::span<sampled_token> draw(std::span<const draw_request> requests, kernels::tensor_view logits,
                                kernels::stream& on);

 private:
  void draw_on_device(std::span<const draw_request> requests, kernels::tensor_view logits,
                      kernels::stream& on);
  void draw_on_host(std::span<const draw_request> requests, kernels::tensor_view logits, kernels::stream& on);

  kernels::backend& backend_;
  std::vector<sampler_scratch> scratch_;  // [threads]
  std::vector<sampled_token> tokens_;     // [requests]
  std::vector<std::size_t> on_device_;    // requests
  std::vector<std::size_t> on_host_;
  std::vector<kernels::draw_row> rows_;  // [on_device_]
  std::vector<kernels::drawn_row> drawn_;
  std::vector<const float*> host_rows_;  // [rows of the logits], null where nobody needs them
};

}  // namespace fastserve::model
