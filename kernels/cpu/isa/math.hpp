#pragma once

// Elementary functions on vectors. Every element goes through the same operations wherever it stands.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

/// e^x, below 2 ulp; 0 below -104, infinity above 88.73. e^0 is exactly 1.
/// x = n ln 2 + r, |r| <= 0.347; e^r by its Taylor series (the first term left out is below 6e-9).
FASTSERVE_INLINE f32v exp(f32v x) {
  x = min(set1(89.0F), max(set1(-104.0F), x));  // in this order a NaN stays
  const f32v n = nearest(x * set1(1.44269504F));
  // ln 2 in two parts; n times the first is exact.
  f32v r = fma(n, set1(-0.693359375F), x);
  r = fma(n, set1(2.12194440e-4F), r);
  f32v y = set1(1.0F / 5040);
  y = fma(y, r, set1(1.0F / 720));
  y = fma(y, r, set1(1.0F / 120));
  y = fma(y, r, set1(1.0F / 24));
  y = fma(y, r, set1(1.0F / 6));
  y = fma(y, r, set1(0.5F));
  y = fma(y, r, set1(1.0F));
  y = fma(y, r, set1(1.0F));
  return scale2(y, n);
}

/// 1 / (1 + e^-x)
FASTSERVE_INLINE f32v sigmoid(f32v x) { return set1(1.0F) / (set1(1.0F) + exp(zero() - x)); }

/// erfc(z) for z >= 0, relative error below 1e-6 up to z = 6:
/// t exp(P(t) - z^2) with t = 1 / (1 + z / 2), P a minimax fit of degree 9 (error 3.2e-8).
FASTSERVE_INLINE f32v erfc(f32v z) {
  const f32v t = set1(1.0F) / fma(z, set1(0.5F), set1(1.0F));
  f32v p = set1(0.118249349F);
  p = fma(p, t, set1(-0.533217705F));
  p = fma(p, t, set1(0.803285831F));
  p = fma(p, t, set1(-0.216715089F));
  p = fma(p, t, set1(-0.485393161F));
  p = fma(p, t, set1(0.221582294F));
  p = fma(p, t, set1(-0.0422723368F));
  p = fma(p, t, set1(0.4031788F));
  p = fma(p, t, set1(0.996649382F));
  p = fma(p, t, set1(-1.26534733F));
  return t * exp(fma(zero() - z, z, p));
}

/// x times the normal distribution's function at x: arXiv 1606.08415, exact form.
FASTSERVE_INLINE f32v gelu(f32v x) {
  const f32v z = x * set1(0.707106781F);
  const f32v tail = set1(0.5F) * erfc(max(z, zero() - z));
  return x * select_less(x, zero(), tail, set1(1.0F) - tail);
}

/// The same paper's tanh form: 0.5 x (1 + tanh u) = x sigmoid(2 u), free of cancellation.
FASTSERVE_INLINE f32v gelu_tanh(f32v x) {
  const f32v cube = x * x * x;
  const f32v u = set1(0.797884561F) * fma(cube, set1(0.044715F), x);
  return x * sigmoid(u + u);
}

FASTSERVE_INLINE f32v silu(f32v x) { return x * sigmoid(x); }

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
