#include "kernels/cuda/device.cuh"
#include "kernels/cuda/linear.hpp"

// f32 by f32 in f32, without tensor cores: for checks against other devices, not for speed. A warp to an
// output feature; each lane sums every 32nd four of k, then the lanes' sums are added in a fixed tree.

namespace fastserve::kernels::cuda {
namespace {

constexpr int warps = 4;
constexpr int rows_at_once = 8;

__global__ void __launch_bounds__(warps* warp_lanes) multiply_f32(product p) {
  const int lane = thread_index() % warp_lanes;
  const std::int64_t feature = block_x() * warps + thread_index() / warp_lanes;
  if (feature >= p.features) return;  // whole warps
  const std::int64_t row = block_y() * rows_at_once;
  const std::int64_t columns = p.units * unit_columns;
  const auto* w = reinterpret_cast<const float*>(p.weights) + feature * columns;
  float sums[rows_at_once] = {};
  for (std::int64_t k = 4 * lane; k < columns; k += 4 * warp_lanes) {
    const auto a = *reinterpret_cast<const float4v*>(w + k);
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
      if (row + r >= p.rows) break;
      const auto b = *reinterpret_cast<const float4v*>(p.input + (row + r) * p.row_bytes + k * 4);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[r] = fma(a.x[i], b.x[i], sums[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < rows_at_once; ++r) {
    float sum = warp_sum(sums[r]);
    if (lane != 0 || row + r >= p.rows) continue;
    if (p.bias != nullptr) sum += p.bias[feature];
    float* to = p.out + (row + r) * p.out_stride + feature;
    *to = p.accumulate ? *to + sum : sum;
  }
}

}  // namespace

void launch_product_f32(const product& p, cudaStream_t on) {
  launch("linear of f32", multiply_f32,
         {(p.features + warps - 1) / warps, (p.rows + rows_at_once - 1) / rows_at_once, warps * warp_lanes, 0,
          on},
         p);
}

}  // namespace fastserve::kernels::cuda
