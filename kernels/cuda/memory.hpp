#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/check.hpp"

namespace fastserve::kernels::cuda {

/// Makes `ordinal` the calling thread's device.
inline void use_device(int ordinal) { check(cudaSetDevice(ordinal), "cudaSetDevice"); }

/// Device memory, 256-byte aligned. Throws std::bad_alloc.
buffer allocate_device(std::size_t bytes, int ordinal);
/// Page-locked host memory. Throws std::bad_alloc.
buffer allocate_pinned(std::size_t bytes, int ordinal);

class cuda_stream final : public stream {
 public:
  explicit cuda_stream(int ordinal);
  ~cuda_stream() override;
  void synchronize() override;
  cudaStream_t handle() const { return handle_; }

 private:
  int ordinal_;
  cudaStream_t handle_ = nullptr;
};

/// The CUDA stream behind one of this back end's.
inline cudaStream_t handle_of(stream& on) {
  assert(dynamic_cast<cuda_stream*>(&on) != nullptr);
  return static_cast<cuda_stream&>(on).handle();
}

class cuda_event {
 public:
  cuda_event() { check(cudaEventCreateWithFlags(&handle_, cudaEventDisableTiming), "cudaEventCreate"); }
  cuda_event(const cuda_event&) = delete;
  cuda_event& operator=(const cuda_event&) = delete;
  ~cuda_event() { cudaEventDestroy(handle_); }
  void record(cudaStream_t on) { check(cudaEventRecord(handle_, on), "cudaEventRecord"); }
  cudaEvent_t handle() const { return handle_; }
  void wait() { check(cudaEventSynchronize(handle_), "cudaEventSynchronize"); }
  bool passed() {
    const auto error = cudaEventQuery(handle_);
    if (error == cudaErrorNotReady) return false;
    check(error, "cudaEventQuery");
    return true;
  }

 private:
  cudaEvent_t handle_ = nullptr;
};

class cuda_mark final : public stream_mark {
 public:
  void set(stream& on) override { event_.record(handle_of(on)); }
  bool passed() override { return event_.passed(); }
  void wait() override { event_.wait(); }

 private:
  cuda_event event_;
};

/// Page-locked host memory that only grows. Contents are not kept.
class pinned_memory {
 public:
  pinned_memory() = default;
  pinned_memory(const pinned_memory&) = delete;
  pinned_memory& operator=(const pinned_memory&) = delete;
  ~pinned_memory() { cudaFreeHost(data_); }
  void* at_least(std::size_t bytes);

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Device memory that only grows. Contents are not kept. Growing waits for the device, because freeing does.
class device_scratch {
 public:
  /// `moves`, unless null, is counted up whenever the memory moves: recorded steps know its address.
  explicit device_scratch(int ordinal, std::uint64_t* moves = nullptr) : ordinal_{ordinal}, moves_{moves} {}
  void* at_least(std::size_t bytes);

 private:
  int ordinal_;
  std::uint64_t* moves_;
  buffer memory_;
};

/// Host memory of any kind to the device through two pinned pieces in turn, at the bus's speed.
class staged_upload {
 public:
  /// `from` may be reused on return; the device has the data when `on` is that far.
  void operator()(void* to, const void* from, std::size_t bytes, cudaStream_t on);

 private:
  static constexpr std::size_t piece_bytes = std::size_t{8} << 20;
  struct piece {
    pinned_memory memory;
    cuda_event copied;
  };
  piece pieces_[2];
  unsigned next_ = 0;
};

}  // namespace fastserve::kernels::cuda
