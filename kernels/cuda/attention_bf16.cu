#include "kernels/cuda/attention_mma.cuh"

namespace fastserve::kernels::cuda {

void launch_attention_bf16(const attention_job& job, std::int64_t tasks, bool narrow, cudaStream_t on) {
  launch_attend_of<bf16, false>(job, tasks, narrow, on);
}

}  // namespace fastserve::kernels::cuda
