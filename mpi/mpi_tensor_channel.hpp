#pragma once

#include "mpi/message_pump.hpp"
#include "mpi/tensor_channel.hpp"
#include "mpi/tensor_mailbox.hpp"

namespace fastserve::mpi {

/// Tensors between ranks, through host memory and the message pump. One copy into a recycled buffer on either
/// side, nothing else: receive() sleeps until the pump has put the tensor into the mailbox.
class mpi_tensor_channel final : public tensor_channel {
 public:
  /// Takes the tensors' channel of `pump`, which must not have been started, must outlive this object, and
  /// must be stopped before it is destroyed.
  explicit mpi_tensor_channel(message_pump& pump);

  std::string_view name() const override { return "MPI"; }
  void send(int peer, tensor_key key, kernels::tensor_view what, kernels::backend& by,
            kernels::stream& on) override;
  bool receive(int peer, tensor_key key, kernels::tensor_view out, kernels::backend& by, kernels::stream& on,
               std::chrono::nanoseconds deadline) override;
  void end_epoch(std::uint32_t epoch) override { box_.end_epoch(epoch); }

  /// Frames that were no tensors, since the start.
  std::uint64_t malformed() const { return malformed_; }
  /// Tensors that nobody has taken yet.
  std::size_t waiting() const { return box_.waiting(); }

 private:
  void on_frame(frame&& what);

  message_pump& pump_;
  tensor_mailbox box_;
  std::atomic<std::uint64_t> malformed_{0};
};

}  // namespace fastserve::mpi
