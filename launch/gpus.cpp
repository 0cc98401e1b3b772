// The only file of this folder that knows whether the program was built for GPUs.

#include "launch/device_choice.hpp"

#if FASTSERVE_HAVE_CUDA
#include "kernels/cuda/cuda_backend.hpp"
#include "mpi/nccl_link.hpp"
#else
#include <stdexcept>
#endif

namespace fastserve::launch {

#if FASTSERVE_HAVE_CUDA
bool built_for_gpus() noexcept { return true; }
std::vector<std::string> find_gpus() {
  std::vector<std::string> out;
  for (const auto& device : kernels::cuda_devices()) out.push_back(device.uuid);
  return out;
}
std::unique_ptr<kernels::backend> open_gpu(int ordinal, int threads) {
  return kernels::make_cuda_backend(ordinal, threads);
}
std::unique_ptr<mpi::device_link> open_gpu_link(int ordinal) {
  return std::make_unique<mpi::nccl_link>(ordinal);
}
#else
bool built_for_gpus() noexcept { return false; }
std::vector<std::string> find_gpus() { return {}; }
std::unique_ptr<kernels::backend> open_gpu(int, int) { throw std::logic_error("built without CUDA"); }
std::unique_ptr<mpi::device_link> open_gpu_link(int) { throw std::logic_error("built without CUDA"); }
#endif

}  // namespace fastserve::launch
