#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "kernels/backend.hpp"
#include "kernels/cuda/memory.hpp"

namespace fastserve::kernels::cuda {

/// Draws that the device does while the host goes on. Each has host memory of its own until it is finished;
/// on the device they share one piece, as a stream's draws and the steps that use them are one behind the
/// other. A server has one such stream.
class draw_queue {
 public:
  explicit draw_queue(int ordinal);

  /// See backend::start_draw().
  void start(std::span<const draw_row> rows, tensor_view logits, cudaStream_t on);
  bool done();
  void finish(std::span<drawn_row> out);

  /// The tokens of the last start() in device memory, for what is queued before the next one.
  const drawn_row* last() const { return last_; }

 private:
  struct flight {
    pinned_memory host;  ///< what is asked for, then what is drawn
    cuda_event done;
    std::size_t asked_bytes = 0;
    std::size_t count = 0;
  };
  flight& oldest() { return flights_[finished_ % flights_.size()]; }

  device_scratch device_;  ///< as `host`
  std::array<flight, most_draws_begun> flights_;
  std::size_t started_ = 0;
  std::size_t finished_ = 0;
  const drawn_row* last_ = nullptr;
};

}  // namespace fastserve::kernels::cuda
