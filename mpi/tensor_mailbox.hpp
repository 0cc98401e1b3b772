#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "mpi/buffer_pool.hpp"
#include "mpi/tensor_channel.hpp"

namespace fastserve::mpi {

/// A tensor in host memory on its way: the bytes of a frame and where the elements begin in it.
struct tensor_parcel {
  int peer = 0;
  tensor_key key;
  kernels::dtype type = kernels::dtype::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  pooled_buffer bytes;
  std::size_t offset = 0;

  const std::byte* elements() const { return bytes.data() + offset; }
};

/// Where parcels wait for their receiver: the receiving half of the channels that go through host memory.
/// Thread-safe.
class tensor_mailbox {
 public:
  /// Holds at most `max_parcels`; more are refused, since nobody takes them.
  explicit tensor_mailbox(std::size_t max_parcels = 1024) : max_parcels_{max_parcels} {}

  /// False when the parcel's epoch is over, its key is taken or the box is full.
  bool put(tensor_parcel&& parcel);
  /// Waits for a parcel on a condition variable. Nothing when the epoch is over or the deadline has passed.
  std::optional<tensor_parcel> take(int peer, tensor_key key, std::chrono::nanoseconds deadline);
  void end_epoch(std::uint32_t epoch);
  bool ended(std::uint32_t epoch) const { return epoch < first_live_epoch_.load(std::memory_order_acquire); }

  std::size_t waiting() const;
  std::uint64_t refused() const { return refused_; }

 private:
  std::size_t max_parcels_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<tensor_parcel> parcels_;  // few: as many as steps are in flight
  std::atomic<std::uint64_t> first_live_epoch_{0};
  std::atomic<std::uint64_t> refused_{0};
};

/// Checks that `parcel` is what `out` expects and copies it there. Throws std::runtime_error with both
/// shapes.
void unpack(const tensor_parcel& parcel, kernels::tensor_view out, kernels::backend& by, kernels::stream& on);

/// Throws std::runtime_error unless `what` is contiguous and not negative in size.
void require_contiguous(const kernels::tensor_view& what, std::string_view call);

}  // namespace fastserve::mpi
