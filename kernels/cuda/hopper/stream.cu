#include "kernels/cuda/hopper/stream.cuh"

namespace fastserve::kernels::cuda::hopper {

void launch_stream(const product& p, int multiprocessors, cudaStream_t on) {
  constexpr auto what = "product, few rows";
  return p.form == weight_form::f16 ? launch_stream_of<number_slots, f16>(what, p, multiprocessors, on)
                                    : launch_stream_of<number_slots, bf16>(what, p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
