#include "kernels/dtype.hpp"

#include <cassert>
#include <cstring>

#include "kernels/cpu/half.hpp"

namespace fastserve::kernels {

void to_f32(float* out, const void* from, dtype type, std::size_t count) {
  if (count == 0) return;  // pointers may be null then
  const auto* bytes = static_cast<const unsigned char*>(from);
  if (type == dtype::f32) {
    std::memcpy(out, bytes, count * sizeof(float));
    return;
  }
  assert(type == dtype::f16 || type == dtype::bf16);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t h;
    std::memcpy(&h, bytes + 2 * i, sizeof h);
    out[i] = type == dtype::f16 ? cpu::half_to_float(h) : cpu::bfloat_to_float(h);
  }
}

void from_f32(void* out, dtype type, const float* from, std::size_t count) {
  if (count == 0) return;  // pointers may be null then
  auto* bytes = static_cast<unsigned char*>(out);
  if (type == dtype::f32) {
    std::memcpy(bytes, from, count * sizeof(float));
    return;
  }
  assert(type == dtype::f16 || type == dtype::bf16);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t h = type == dtype::f16 ? cpu::float_to_half(from[i]) : cpu::float_to_bfloat(from[i]);
    std::memcpy(bytes + 2 * i, &h, sizeof h);
  }
}

float rounded_to(dtype type, float x) {
  std::uint32_t bytes = 0;
  from_f32(&bytes, type, &x, 1);
  to_f32(&x, &bytes, type, 1);
  return x;
}

}  // namespace fastserve::kernels
