#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "mpi/tensor_channel.hpp"

namespace fastserve::mpi {

/// A link between two ranks as tensors see it.
struct link_figures {
  double latency_s = 0;    ///< one way, of a tensor of one number
  double bytes_per_s = 0;  ///< of tensors of 1 MiB
};

/// Plays ping-pong with `peer`, which must call this at the same time with the same `epoch` and `first_step`;
/// uses the 128 steps from there on. About 20 ms. Nothing when the peer does not answer within `deadline` at
/// any one point, or when the epoch ends.
std::optional<link_figures> probe_link(tensor_channel& over, int self, int peer, std::uint32_t epoch,
                                       std::uint64_t first_step, kernels::backend& by,
                                       std::chrono::nanoseconds deadline);

}  // namespace fastserve::mpi
