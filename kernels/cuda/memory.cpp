#include "kernels/cuda/memory.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace fastserve::kernels::cuda {
namespace {

void release(void* data, std::size_t, device where) {
  cudaSetDevice(where.ordinal);
  cudaFree(data);
}
void release_pinned(void* data, std::size_t, device) { cudaFreeHost(data); }

/// What to take for `bytes` that may be a little more from step to step: growing is slow, and costs recorded
/// steps.
std::size_t with_room(std::size_t bytes) {
  constexpr std::size_t large = std::size_t{64} << 20;
  if (bytes >= large) return (bytes + large - 1) / large * large;
  return std::bit_ceil(std::max(bytes, std::size_t{4} << 10));
}

}  // namespace

buffer allocate_device(std::size_t bytes, int ordinal) {
  use_device(ordinal);
  bytes = std::max(bytes, std::size_t{1});
  void* data = nullptr;
  check(cudaMalloc(&data, bytes), "cudaMalloc");
  return {data, bytes, device{device_kind::cuda, ordinal}, release};
}

buffer allocate_pinned(std::size_t bytes, int ordinal) {
  use_device(ordinal);
  bytes = std::max(bytes, std::size_t{1});
  void* data = nullptr;
  check(cudaMallocHost(&data, bytes), "cudaMallocHost");
  return {data, bytes, device{}, release_pinned};
}

cuda_stream::cuda_stream(int ordinal) : ordinal_{ordinal} {
  use_device(ordinal);
  check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreate");
}

cuda_stream::~cuda_stream() {
  cudaSetDevice(ordinal_);
  cudaStreamDestroy(handle_);
}

void cuda_stream::synchronize() {
  use_device(ordinal_);
  check(cudaStreamSynchronize(handle_), "cudaStreamSynchronize");
}

void* pinned_memory::at_least(std::size_t bytes) {
  if (bytes > bytes_) {
    cudaFreeHost(data_);
    data_ = nullptr;
    bytes_ = 0;
    bytes = with_room(bytes);
    check(cudaMallocHost(&data_, bytes), "cudaMallocHost");
    bytes_ = bytes;
  }
  return data_;
}

void* device_scratch::at_least(std::size_t bytes) {
  if (memory_.bytes() < bytes) {
    memory_ = {};
    memory_ = allocate_device(with_room(bytes), ordinal_);
    if (moves_ != nullptr) ++*moves_;
  }
  return memory_.data();
}

void staged_upload::operator()(void* to, const void* from, std::size_t bytes, cudaStream_t on) {
  for (std::size_t at = 0; at < bytes; at += piece_bytes) {
    auto& piece = pieces_[next_++ % 2];
    const std::size_t count = std::min(piece_bytes, bytes - at);
    piece.copied.wait();  // at once where none was recorded
    void* staged = piece.memory.at_least(std::max(count, std::min(bytes, piece_bytes)));
    std::memcpy(staged, static_cast<const char*>(from) + at, count);
    check(cudaMemcpyAsync(static_cast<char*>(to) + at, staged, count, cudaMemcpyHostToDevice, on),
          "cudaMemcpyAsync to the device");
    piece.copied.record(on);
  }
}

}  // namespace fastserve::kernels::cuda
