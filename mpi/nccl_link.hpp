#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mpi/device_link.hpp"

namespace fastserve::mpi {

/// NCCL between the GPUs of a pipeline: one communicator, non-blocking, and a stream of its own, so that a
/// transfer runs beside the computing. What is sent is copied aside first, within the device, and the buffer
/// is free at once.
class nccl_link final : public device_link {
 public:
  /// For the GPU `ordinal` of this process. Throws std::runtime_error.
  explicit nccl_link(int ordinal);
  ~nccl_link() override;

  std::string name() const override { return "NCCL"; }
  std::string make_id() override;
  bool join(const std::string& id, int size, int me, std::size_t largest_bytes,
            std::chrono::nanoseconds deadline, const std::function<bool()>& wanted) override;
  void send(int to, const void* data, std::size_t bytes, kernels::stream& on) override;
  bool receive(int from, void* data, std::size_t bytes, kernels::stream& on,
               std::chrono::nanoseconds deadline) override;
  void abort() override;

 private:
  // Bytes on their way out.
  struct slot {
    void* data = nullptr;
    cudaEvent_t filled = nullptr;  // by the computing stream
    cudaEvent_t sent = nullptr;    // by the link's
  };

  bool settle(ncclResult_t result, const char* call, std::chrono::steady_clock::time_point end,
              const std::function<bool()>& wanted);
  bool meet_neighbours(int size, int me, std::chrono::steady_clock::time_point end,
                       const std::function<bool()>& wanted);
  bool wait_for(cudaEvent_t event, std::chrono::steady_clock::time_point end,
                const std::function<bool()>& wanted);
  void reserve(std::size_t bytes);
  void end_membership();
  void require_sound();

  int ordinal_;
  std::mutex mutex_;  // around calls on comm_, none of which waits
  ncclComm_t comm_ = nullptr;
  std::thread reaper_;  // of a communicator that was left: that can take seconds
  std::atomic<std::uint64_t> aborts_{0};
  cudaStream_t queue_ = nullptr;
  cudaEvent_t writable_ = nullptr;  // the receiver's memory is read no more
  cudaEvent_t received_ = nullptr;
  std::vector<slot> slots_;
  std::size_t slot_bytes_ = 0;
  std::size_t next_ = 0;
};

}  // namespace fastserve::mpi
