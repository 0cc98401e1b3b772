#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/dtype.hpp"

// Elements whose type is known at run time: the branch is the same for the whole grid.

namespace fastserve::kernels::cuda {

FASTSERVE_DEVICE float load_element(const void* from, dtype type, std::int64_t i) {
  if (type == dtype::bf16) return to_float(static_cast<const bf16*>(from)[i]);
  if (type == dtype::f16) return to_float(static_cast<const f16*>(from)[i]);
  return static_cast<const float*>(from)[i];
}

FASTSERVE_DEVICE void store_element(void* to, dtype type, std::int64_t i, float x) {
  if (type == dtype::bf16) {
    static_cast<bf16*>(to)[i] = rounded_to<bf16>(x);
  } else if (type == dtype::f16) {
    static_cast<f16*>(to)[i] = rounded_to<f16>(x);
  } else {
    static_cast<float*>(to)[i] = x;
  }
}

/// Elements [i, i + 4) of a row of `count`; 0 beyond its end. `whole`: every such four is there, aligned.
FASTSERVE_DEVICE float4v load_four(const float* row, std::int64_t i, std::int64_t count, bool whole) {
  if (whole) return *reinterpret_cast<const float4v*>(row + i);
  float4v v{};
  for (int j = 0; j < 4; ++j)
    if (i + j < count) v.x[j] = row[i + j];
  return v;
}

FASTSERVE_DEVICE void store_four(void* row, dtype type, std::int64_t i, std::int64_t count, bool whole,
                                 const float4v& v) {
  if (!whole) {
    for (int j = 0; j < 4; ++j)
      if (i + j < count) store_element(row, type, i + j, v.x[j]);
  } else if (type == dtype::f32) {
    *reinterpret_cast<float4v*>(static_cast<float*>(row) + i) = v;
  } else {
    struct alignas(8) pair {
      std::uint32_t x[2];
    };
    pair p;
    if (type == dtype::bf16) {
      p = {{pack2<bf16>(v.x[0], v.x[1]), pack2<bf16>(v.x[2], v.x[3])}};
    } else {
      p = {{pack2<f16>(v.x[0], v.x[1]), pack2<f16>(v.x[2], v.x[3])}};
    }
    *reinterpret_cast<pair*>(static_cast<std::uint16_t*>(row) + i) = p;
  }
}

/// Row `r` of a matrix whose elements take `size` bytes.
FASTSERVE_DEVICE char* row_at(void* data, std::int64_t r, std::int64_t stride, int size) {
  return static_cast<char*>(data) + r * stride * size;
}
FASTSERVE_DEVICE const char* row_at(const void* data, std::int64_t r, std::int64_t stride, int size) {
  return static_cast<const char*>(data) + r * stride * size;
}

}  // namespace fastserve::kernels::cuda
