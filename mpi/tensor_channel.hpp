#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string_view>

#include "kernels/backend.hpp"
#include "kernels/tensor.hpp"

namespace fastserve::mpi {

/// Names one hand-over of activations between two stages. A pair of ranks uses a key once.
struct tensor_key {
  std::uint32_t epoch = 0;
  std::uint64_t step = 0;
  friend bool operator==(const tensor_key&, const tensor_key&) = default;
};

/// end_epoch(all_epochs) ends the channel.
inline constexpr std::uint32_t all_epochs = std::numeric_limits<std::uint32_t>::max();

/// Moves matrices between the stages of a pipeline. Thread-safe; tensors may arrive in any order of keys.
///
/// Work on `on` that writes a tensor before send(), or reads it after receive(), is ordered with the
/// transfer: an implementation either completes the transfer before it returns or enqueues it on the stream.
class tensor_channel {
 public:
  tensor_channel() = default;
  tensor_channel(const tensor_channel&) = delete;
  tensor_channel& operator=(const tensor_channel&) = delete;
  virtual ~tensor_channel() = default;

  /// For the start-up log: "in-process", "MPI".
  virtual std::string_view name() const = 0;

  /// Sends `what` (contiguous) to `peer`. Does not wait for the peer; `what` may be reused when the call
  /// returns. Does nothing when the key's epoch is over or the peer is dead. Throws std::runtime_error when
  /// the tensor is larger than the channel carries.
  virtual void send(int peer, tensor_key key, kernels::tensor_view what, kernels::backend& by,
                    kernels::stream& on) = 0;

  /// Waits for the tensor of that key from `peer` and writes it to `out` (contiguous). False when the epoch
  /// is over or `deadline` has passed. Throws std::runtime_error when it is not of the shape and type of
  /// `out`.
  virtual bool receive(int peer, tensor_key key, kernels::tensor_view out, kernels::backend& by,
                       kernels::stream& on, std::chrono::nanoseconds deadline) = 0;

  /// Ends `epoch` and all before it on this endpoint: receives under way return false, tensors that wait or
  /// still come are dropped.
  virtual void end_epoch(std::uint32_t epoch) = 0;
};

}  // namespace fastserve::mpi
