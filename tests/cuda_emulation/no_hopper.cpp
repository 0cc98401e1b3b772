// The emulated device is no Hopper.
#include <stdexcept>

#include "kernels/cuda/hopper/hopper.hpp"

namespace fastserve::kernels::cuda::hopper {

bool runs_on(int) { return false; }

void launch_product(const product&, int, cudaStream_t) {
  throw std::logic_error("not on an emulated device");
}

}  // namespace fastserve::kernels::cuda::hopper
