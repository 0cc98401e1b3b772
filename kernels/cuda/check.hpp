#pragma once

#include <cuda_runtime_api.h>

#include <new>
#include <stdexcept>
#include <string>

namespace fastserve::kernels::cuda {

/// Throws std::runtime_error naming the call, or std::bad_alloc when the device has no memory left.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // this one does no harm to later calls
    throw std::bad_alloc{};
  }
  throw std::runtime_error(std::string{"CUDA: "} + what + ": " + cudaGetErrorString(error));
}

}  // namespace fastserve::kernels::cuda
