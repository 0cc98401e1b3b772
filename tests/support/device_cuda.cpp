#include "device.hpp"

#include "kernels/cuda/cuda_backend.hpp"

namespace fastserve::test {

const bool on_cuda = true;
#ifdef FASTSERVE_CUDA_EMULATION
const bool emulated = true;
#else
const bool emulated = false;
#endif

std::vector<std::string> devices() { return {"cuda"}; }

std::unique_ptr<kernels::backend> make_device(int, const std::string&) {
  return kernels::make_cuda_backend(0);
}

}  // namespace fastserve::test
