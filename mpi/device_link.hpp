#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kernels/backend.hpp"

namespace fastserve::mpi {

/// Moves device memory between the members of one pipeline without the host's hands on it: NCCL, or a
/// stand-in for tests. Between two members transfers arrive in the order they were sent, and both know their
/// sizes.
///
/// One thread sends and receives; abort() may come from any other at any time.
class device_link {
 public:
  device_link() = default;
  device_link(const device_link&) = delete;
  device_link& operator=(const device_link&) = delete;
  virtual ~device_link() = default;

  /// For the start-up table: "NCCL".
  virtual std::string name() const = 0;

  /// What the members of a link to be meet under: made by one of them, carried to the others as text. Throws
  /// std::runtime_error.
  virtual std::string make_id() = 0;

  /// Joins `size` members as member `me`, for transfers of at most `largest_bytes`. Returns when all have
  /// joined; false when abort() came, `wanted` (asked every few milliseconds) said no or `deadline` passed.
  /// Throws std::runtime_error when the device or the network fails. An earlier membership ends.
  virtual bool join(const std::string& id, int size, int me, std::size_t largest_bytes,
                    std::chrono::nanoseconds deadline, const std::function<bool()>& wanted) = 0;

  /// A member's death may make these two throw std::runtime_error, or not return.
  /// Queues `bytes` of device memory for member `to`, behind the work that `on` has. Does not wait. Work
  /// queued on `on` later may write the memory. Nothing after abort().
  virtual void send(int to, const void* data, std::size_t bytes, kernels::stream& on) = 0;

  /// Receives `bytes` from member `from`; work queued on `on` later reads them. Returns when they are there;
  /// false when abort() came first or `deadline` passed.
  virtual bool receive(int from, void* data, std::size_t bytes, kernels::stream& on,
                       std::chrono::nanoseconds deadline) = 0;

  /// Ends the membership: calls under way return, transfers are dropped. Does not wait for that. A dead
  /// member makes the device wait for ever, so this is the only way out. join() may follow.
  virtual void abort() = 0;
};

}  // namespace fastserve::mpi
