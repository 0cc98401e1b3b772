#include "kernels/cuda/linear_tile.cuh"

namespace fastserve::kernels::cuda {

void launch_tile_float(const product& p, cudaStream_t on) {
  return p.form == weight_form::bf16 ? launch_tile<float_form<bf16>>("linear, many rows", p, on)
                                     : launch_tile<float_form<f16>>("linear, many rows", p, on);
}

}  // namespace fastserve::kernels::cuda
