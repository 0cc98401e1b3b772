#pragma once

// Conversions, activations and rotation: every element on its own.

#include "kernels/cpu/isa/attention_pairs.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

template <class To, class From>
void convert(void* out, const void* in, std::int64_t count) {
  auto* to = static_cast<To*>(out);
  const auto* from = static_cast<const From*>(in);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(to + i, load(from + i));
  if (i < count) store_n(to + i, load_n(from + i, static_cast<int>(count - i)), static_cast<int>(count - i));
}

template <class From>
void add_to_f32(void* out, const void* in, std::int64_t count) {
  auto* to = static_cast<float*>(out);
  const auto* from = static_cast<const From*>(in);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(to + i, load(to + i) + load(from + i));
  if (i < count) {
    const int n = static_cast<int>(count - i);
    store_n(to + i, load_n(to + i, n) + load_n(from + i, n), n);
  }
}

template <gate F>
FASTSERVE_INLINE f32v apply(f32v x) {
  if constexpr (F == gate_silu) return silu(x);
  if constexpr (F == gate_gelu) return gelu(x);
  if constexpr (F == gate_gelu_tanh) return gelu_tanh(x);
  return max(x, zero());
}

template <gate F, class To>
void activate_as(To* to, const float* in, const float* up, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const f32v y = apply<F>(load(in + i));
    store(to + i, up == nullptr ? y : y * load(up + i));
  }
  if (i < count) {
    const int n = static_cast<int>(count - i);
    const f32v y = apply<F>(load_n(in + i, n));
    store_n(to + i, up == nullptr ? y : y * load_n(up + i, n), n);
  }
}

template <class To>
void activate(void* out, const float* in, const float* up, gate f, std::int64_t count) {
  auto* to = static_cast<To*>(out);
  switch (f) {
    case gate_silu:
      return activate_as<gate_silu>(to, in, up, count);
    case gate_gelu:
      return activate_as<gate_gelu>(to, in, up, count);
    case gate_gelu_tanh:
      return activate_as<gate_gelu_tanh>(to, in, up, count);
    case gate_relu:
      return activate_as<gate_relu>(to, in, up, count);
  }
}

/// Pairs (i, i + pairs).
void rotate_half(float* head, const float* cosine, const float* sine, int pairs) {
  float* second = head + pairs;
  for (int i = 0; i < pairs; i += lanes) {
    const int n = pairs - i < lanes ? pairs - i : lanes;
    const f32v c = load_n(cosine + i, n);
    const f32v s = load_n(sine + i, n);
    const f32v x = load_n(head + i, n);
    const f32v y = load_n(second + i, n);
    store_n(head + i, x * c - y * s, n);
    store_n(second + i, y * c + x * s, n);
  }
}

/// Pairs (2i, 2i + 1).
void rotate_interleaved(float* head, const float* cosine, const float* sine, int pairs) {
  for (int i = 0; i < pairs; ++i) {
    const float x = head[2 * i];
    const float y = head[2 * i + 1];
    head[2 * i] = x * cosine[i] - y * sine[i];
    head[2 * i + 1] = y * cosine[i] + x * sine[i];
  }
}

/// Where element `d` of the token in slot `slot` lies. Keys lie [head_dim][16 tokens], so that 16 scores grow
/// in one vector; values lie [16 tokens][head_dim]. Or they lie in pairs.
template <class E>
FASTSERVE_INLINE std::int64_t key_at(int d, int slot, int head_dim) {
  if constexpr (in_pairs<E>) return key_in_pairs(d, slot, head_dim);
  return d * block_tokens + slot;
}
template <class E>
FASTSERVE_INLINE std::int64_t value_at(int d, int slot, int head_dim) {
  if constexpr (in_pairs<E>) return value_in_pairs(d, slot, head_dim);
  return static_cast<std::int64_t>(slot) * head_dim + d;
}

template <class To>
void store_kv(void* keys, void* values, const float* key, const float* value, int slot, int head_dim) {
  auto* to_keys = static_cast<To*>(keys);
  auto* to_values = static_cast<To*>(values);
  for (int d = 0; d < head_dim; d += lanes) {
    const int n = head_dim - d < lanes ? head_dim - d : lanes;
    To rounded[lanes];
    store(rounded, load_n(key + d, n));
    for (int i = 0; i < n; ++i) to_keys[key_at<To>(d + i, slot, head_dim)] = rounded[i];
    if constexpr (in_pairs<To>) {
      store(rounded, load_n(value + d, n));
      for (int i = 0; i < n; ++i) to_values[value_at<To>(d + i, slot, head_dim)] = rounded[i];
    } else {
      store_n(to_values + value_at<To>(d, slot, head_dim), load_n(value + d, n), n);
    }
  }
}

/// Rounds a vector to i8 by its largest magnitude and returns the scale. What is not finite makes the scale
/// NaN, so that it is seen in every answer that reads it. to: (element) -> where it belongs.
template <class To>
FASTSERVE_INLINE float round_to_i8(const float* from, int head_dim, To to) {
  f32v largest = zero();
  f32v wrong = zero();
  for (int d = 0; d < head_dim; d += lanes) {
    const f32v x = load_n(from + d, head_dim - d < lanes ? head_dim - d : lanes);
    largest = max(largest, max(x, zero() - x));
    wrong = wrong + (x - x);
  }
  const float magnitude = maximum(largest);
  const bool tiny = !(magnitude > 1e-30F);  // 127 / magnitude must be a number
  const f32v factor = set1(tiny ? 0.0F : 127.0F / magnitude);
  for (int d = 0; d < head_dim; d += lanes) {
    const int n = head_dim - d < lanes ? head_dim - d : lanes;
    float whole[lanes];
    // NaN falls to the bound: max and min give their second argument then.
    store(whole, min(max(nearest(load_n(from + d, n) * factor), set1(-127.0F)), set1(127.0F)));
    for (int i = 0; i < n; ++i) to(d + i) = static_cast<i8>(static_cast<int>(whole[i]));
  }
  return (tiny ? 0.0F : magnitude / 127.0F) + sum(wrong);
}

void store_kv_i8(void* keys, void* values, const float* key, const float* value, int slot, int head_dim) {
  auto* to_keys = static_cast<i8*>(keys);
  auto* to_values = static_cast<i8*>(values);
  scales_of<i8>(keys, head_dim)[slot] =
      round_to_i8(key, head_dim, [&](int d) -> i8& { return to_keys[key_at<i8>(d, slot, head_dim)]; });
  scales_of<i8>(values, head_dim)[slot] =
      round_to_i8(value, head_dim, [&](int d) -> i8& { return to_values[value_at<i8>(d, slot, head_dim)]; });
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
