#include "kernels/cuda/linear_tile.cuh"

namespace fastserve::kernels::cuda {

void launch_tile_integers(const product& p, cudaStream_t on) {
  if (p.form == weight_form::int8) return launch_tile<int8_form>("linear of int8, many rows", p, on);
  if (p.form == weight_form::int4) return launch_tile<int4_form>("linear of int4, many rows", p, on);
  launch_tile<w8a8_form>("linear of int8 by int8, many rows", p, on);
}

}  // namespace fastserve::kernels::cuda
