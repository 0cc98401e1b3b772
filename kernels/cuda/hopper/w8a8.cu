#include "kernels/cuda/hopper/records.cuh"

namespace fastserve::kernels::cuda::hopper {

void launch_w8a8(const product& p, int multiprocessors, cudaStream_t on) {
  launch_records<int8_codes>(p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
