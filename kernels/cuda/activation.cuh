#pragma once

#include "kernels/backend.hpp"
#include "kernels/cuda/device.cuh"

namespace fastserve::kernels::cuda {

/// x by its logistic: those that gated products end in.
FASTSERVE_DEVICE float logistic_activated(float x, activation f) {
  // x / 2 (1 + tanh u) = x / (1 + exp(-2 u)), without the cancellation where tanh is near -1.
  const float u = f == activation::silu ? x : 2.0F * (0.79788456080286536F * (x + 0.044715F * x * x * x));
  return x * reciprocal_fast(1.0F + exp2_fast(-log2_e * u));
}

FASTSERVE_DEVICE float activated(float x, activation f) {
  switch (f) {
    case activation::silu:
    case activation::gelu_tanh:
      return logistic_activated(x, f);
    case activation::gelu:
      return 0.5F * x * erfcf(x * -0.70710678118654752F);
    case activation::relu:
      return x > 0.0F || x != x ? x : 0.0F;
  }
  return x;
}

}  // namespace fastserve::kernels::cuda
