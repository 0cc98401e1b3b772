#include "kernels/cuda/hopper/records.cuh"

namespace fastserve::kernels::cuda::hopper {

void launch_fp8(const product& p, int multiprocessors, cudaStream_t on) {
  launch_records<e4m3_codes>(p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
