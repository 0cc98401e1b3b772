// The emulated device is no Hopper.
#include <stdexcept>

#include "kernels/cuda/hopper/hopper.hpp"

namespace fastserve::kernels::cuda::hopper {

bool runs_on(int) { return false; }

void launch_product(const product&, int, cudaStream_t) {
  throw std::logic_error("not on an emulated device");
}

void launch_attention(const attention_job&, std::int64_t, std::int64_t, cudaStream_t) {
  throw std::logic_error("not on an emulated device");
}

}  // namespace fastserve::kernels::cuda::hopper
