// The only file of this folder that knows whether the program was built for GPUs.

#include <spdlog/spdlog.h>

#include <stdexcept>

#include "launch/device_choice.hpp"

#ifdef FASTSERVE_GPUS
#include "kernels/cuda/cuda_backend.hpp"
#include "mpi/nccl_link.hpp"
#endif

namespace fastserve::launch {

#ifdef FASTSERVE_GPUS
namespace {

std::vector<std::string> of_all(std::string kernels::cuda_device::*fact) {
  std::vector<std::string> out;
  try {
    for (const auto& device : kernels::cuda_devices()) out.push_back(device.*fact);
  } catch (const std::exception& e) {
    spdlog::warn("the GPUs here cannot be used: {}", e.what());
    return {};
  }
  return out;
}

}  // namespace

bool built_for_gpus() noexcept { return true; }
std::vector<std::string> find_gpus() { return of_all(&kernels::cuda_device::uuid); }
std::vector<std::string> gpu_names() { return of_all(&kernels::cuda_device::name); }
std::unique_ptr<kernels::backend> open_gpu(int ordinal) { return kernels::make_cuda_backend(ordinal); }
std::unique_ptr<mpi::device_link> open_gpu_link(int ordinal) {
  return std::make_unique<mpi::nccl_link>(ordinal);
}
#else
bool built_for_gpus() noexcept { return false; }
std::vector<std::string> find_gpus() { return {}; }
std::vector<std::string> gpu_names() { return {}; }
std::unique_ptr<kernels::backend> open_gpu(int) { throw std::logic_error("built without CUDA"); }
std::unique_ptr<mpi::device_link> open_gpu_link(int) { throw std::logic_error("built without CUDA"); }
#endif

}  // namespace fastserve::launch
