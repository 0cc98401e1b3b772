#pragma once

#include <array>
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
///
/// The host need not wait for the device: it may begin with a step that computes tokens which the device
/// still draws, by name().
class token_drawer {
 public:
  explicit token_drawer(kernels::backend& backend);

  /// Begins to draw one token a request: the host's are drawn on return, the device's when it is that far.
  /// logits: f32 [rows, vocabulary], contiguous. Up to kernels::most_draws_begun may be begun and not ended.
  void begin(std::span<const draw_request> requests, kernels::tensor_view logits, kernels::stream& on);
  /// Whether the oldest that was begun is done.
  bool done();
  /// Its tokens, one a request, when they are there; valid until the next begin() but one.
  std::span<sampled_token> end();
  /// begin() and end(), while no other is begun.
  std::span<sampled_token> draw(std::span<const draw_request> requests, kernels::tensor_view logits,
                                kernels::stream& on) {
    begin(requests, logits, on);
    return end();
  }

  /// What the next step calls the i-th token of the last begin(): the token, or where the device draws it
  /// what step_layout::token_ids says.
  std::int32_t name(std::size_t i) const { return names_.at(i); }
  /// Tokens of the last begin() that the device draws: step_layout::drawn.
  std::int32_t on_device() const { return static_cast<std::int32_t>(rows_.size()); }

 private:
  struct batch {
    std::vector<sampled_token> tokens;      // [requests]
    std::vector<std::size_t> on_device;     // requests
    std::vector<kernels::drawn_row> drawn;  // [on_device]
  };
  batch& batch_of(std::size_t number) { return batches_[number % batches_.size()]; }
  void begin_on_device(batch& of, std::span<const draw_request> requests, kernels::tensor_view logits,
                       kernels::stream& on);
  void draw_on_host(batch& of, std::span<const draw_request> requests, kernels::tensor_view logits,
                    kernels::stream& on);

  kernels::backend& backend_;
  std::vector<sampler_scratch> scratch_;  // [threads]
  std::array<batch, kernels::most_draws_begun> batches_;
  std::size_t begun_ = 0;
  std::size_t ended_ = 0;
  std::vector<std::size_t> on_host_;  // requests
  std::vector<kernels::draw_row> rows_;
  std::vector<std::int32_t> names_;
  std::vector<const float*> host_rows_;  // [rows of the logits], null where nobody needs them
  kernels::buffer row_copies_;           // of single rows, where the device draws from the others
};

}  // namespace fastserve::model
