// In place of the others where the toolkit is too old for them, and for the emulated device.
#include <stdexcept>

#include "kernels/cuda/hopper/hopper.hpp"

namespace fastserve::kernels::cuda::hopper {

bool runs_on(int) { return false; }

bool norms(weight_form, std::int64_t, std::int64_t) { return false; }
product_scratch scratch_of(const product&, int) { return {}; }

void launch_product(const product&, int, cudaStream_t) {
  throw std::logic_error("built without kernels for Hopper");
}

void launch_attention(const attention_job&, std::int64_t, std::int64_t, cudaStream_t) {
  throw std::logic_error("built without kernels for Hopper");
}

}  // namespace fastserve::kernels::cuda::hopper
