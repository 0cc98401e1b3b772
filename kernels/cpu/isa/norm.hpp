#pragma once

// Normalization of one row. Sums run in four vectors, dealt round, and are added in a fixed order: the result
// depends on the row and its length only.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

template <class Term>
FASTSERVE_INLINE float sum_over(const float* in, std::int64_t cols, Term term) {
  f32v part[4] = {zero(), zero(), zero(), zero()};
  std::int64_t i = 0;
  for (; i + 4 * lanes <= cols; i += 4 * lanes) {
    for (int k = 0; k < 4; ++k) part[k] = term(load(in + i + k * lanes), part[k]);
  }
  for (int k = 0; i < cols; i += lanes, ++k) {
    const int n = cols - i < lanes ? static_cast<int>(cols - i) : lanes;
    part[k] = keep(term(load_n(in + i, n), part[k]), 0, n, part[k]);
  }
  return sum((part[0] + part[1]) + (part[2] + part[3]));
}

FASTSERVE_INLINE f32v rms_factor(const float* in, float epsilon, std::int64_t cols) {
  const float squares = sum_over(in, cols, [](f32v x, f32v s) { return fma(x, x, s); });
  return set1(1.0F / __builtin_sqrtf(squares / static_cast<float>(cols) + epsilon));
}

/// Some columns of a row whose factor is known.
template <class To>
FASTSERVE_INLINE void rms_apply(To* to, const float* in, const float* gain, f32v factor, std::int64_t cols) {
  for (std::int64_t i = 0; i < cols; i += lanes) {
    const int n = cols - i < lanes ? static_cast<int>(cols - i) : lanes;
    store_n(to + i, load_n(in + i, n) * factor * load_n(gain + i, n), n);
  }
}

template <class To>
void rms_norm(void* out, const float* in, const float* gain, float epsilon, std::int64_t cols) {
  rms_apply(static_cast<To*>(out), in, gain, rms_factor(in, epsilon, cols), cols);
}

struct row_moments {
  f32v mean;
  f32v factor;
};

FASTSERVE_INLINE row_moments moments(const float* in, float epsilon, std::int64_t cols) {
  const float count = static_cast<float>(cols);
  const f32v mean = set1(sum_over(in, cols, [](f32v x, f32v s) { return s + x; }) / count);
  const float squares = sum_over(in, cols, [mean](f32v x, f32v s) { return fma(x - mean, x - mean, s); });
  return {mean, set1(1.0F / __builtin_sqrtf(squares / count + epsilon))};
}

template <class To>
FASTSERVE_INLINE void layer_apply(To* to, const float* in, const float* gain, const float* bias,
                                  const row_moments& m, std::int64_t cols) {
  for (std::int64_t i = 0; i < cols; i += lanes) {
    const int n = cols - i < lanes ? static_cast<int>(cols - i) : lanes;
    f32v y = (load_n(in + i, n) - m.mean) * m.factor * load_n(gain + i, n);
    if (bias != nullptr) y = y + load_n(bias + i, n);
    store_n(to + i, y, n);
  }
}

template <class To>
void layer_norm(void* out, const float* in, const float* gain, const float* bias, float epsilon,
                std::int64_t cols) {
  layer_apply(static_cast<To*>(out), in, gain, bias, moments(in, epsilon, cols), cols);
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
