#pragma once

// What kernels/limits.hpp measures: the same instructions that the kernels use, without their bookkeeping.

#include "kernels/cpu/isa/gemm_integers.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

/// Streams side by side, with nothing fetched ahead but by the processor.
template <int Streams>
float read_streams(const float* p, std::int64_t count) {
  const std::int64_t part = count / Streams;
  f32v best[2] = {zero(), zero()};
  for (std::int64_t i = 0; i + 4 * lanes <= part; i += 4 * lanes) {
    FASTSERVE_UNROLL(16)
    for (int s = 0; s < Streams; ++s)
      for (int k = 0; k < 4; ++k) best[k % 2] = max(best[k % 2], load(p + s * part + i + k * lanes));
  }
  return sum(best[0] + best[1]);
}

/// In 1 stream, 4 or 16: most cores read several faster, as each page is a fresh start to what fetches ahead.
float read_memory(const void* data, std::int64_t bytes, int streams) {
  const auto* p = static_cast<const float*>(data);
  const std::int64_t count = bytes / 4;
  if (streams == 4) return read_streams<4>(p, count);
  if (streams == 16) return read_streams<16>(p, count);
  f32v part[4] = {zero(), zero(), zero(), zero()};
  for (std::int64_t i = 0; i + 4 * lanes <= count; i += 4 * lanes) {
    for (int k = 0; k < 4 * lanes; k += 16) prefetch_l1(p + i + 2048 + k);
    for (int k = 0; k < 4; ++k) part[k] = max(part[k], load(p + i + k * lanes));
  }
  return sum((part[0] + part[1]) + (part[2] + part[3]));
}

/// Independent chains as many as the product's largest tile has. Two operations a lane and instruction.
template <class W>
double multiply(std::int64_t rounds) {
  constexpr int chains = tile_rows * tile_vectors;
  f32v acc[chains];
  f32v a = set1(1.0F);
  f32v b = set1(1e-9F);
  for (int i = 0; i < chains; ++i) acc[i] = zero();
  for (std::int64_t n = 0; n < rounds; ++n) {
    __asm__ volatile("" : "+x"(a), "+x"(b));
    FASTSERVE_UNROLL(32)
    for (int i = 0; i < chains; ++i) acc[i] = multiply_add<W>(a, b, acc[i]);
  }
  f32v total = zero();
  for (int i = 0; i < chains; ++i) total = total + acc[i];
  volatile float keep_alive = sum(total);
  (void)keep_alive;
  return static_cast<double>(rounds) * chains * lanes * 2.0;
}

double multiply_f32(std::int64_t rounds) { return multiply<plain_f32>(rounds); }

double multiply_bf16(std::int64_t rounds) {
  if constexpr (has_dot) return 2.0 * multiply<pairs_bf16>(rounds);
  return multiply<plain_f32>(rounds);
}

/// Eight operations a lane and instruction (or what stands for it).
double multiply_i8(std::int64_t rounds) {
  constexpr int chains = 12;  // enough for any latency times rate
  i32v acc[chains];
  i32v a = set1_i32(0x01010101);
  i32v b = set1_i32(0x02020202);
  FASTSERVE_UNROLL(32)
  for (int i = 0; i < chains; ++i) acc[i] = set1_i32(i);  // unequal, lest chains be merged
  for (std::int64_t n = 0; n < rounds; ++n) {
    FASTSERVE_UNROLL(32)
    for (int i = 0; i < chains; ++i) {
      __asm__ volatile("" : "+x"(b));  // or the products of all chains were one
      acc[i] = dot_8(acc[i], a, b);
    }
  }
  i32v total = zero_i32();
  FASTSERVE_UNROLL(32)
  for (int i = 0; i < chains; ++i) total = max_i32(total, acc[i]);
  volatile float keep_alive = sum(to_f32(total));
  (void)keep_alive;
  return static_cast<double>(rounds) * chains * lanes * 8.0;
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
