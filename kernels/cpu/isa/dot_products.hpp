#pragma once

// Exact integers: dot products of a few rows' codes with those of some panels, over a few columns.

#include "kernels/cpu/isa/gemm.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

constexpr int step_columns = 16;  // multiplied between two fetches

/// How codes lie in a panel: as bytes, as nibbles, or as bytes that were nibbles (open_nibbles.hpp).
enum class codes_as : std::uint8_t { bytes, nibbles, opened };

FASTSERVE_INLINE const q8_record& record_at(const char* input, int row) {
  return reinterpret_cast<const q8_record*>(input)[row];
}

/// Four codes of a row, in every lane.
FASTSERVE_INLINE i32v four_codes(const char* input) {
  std::int32_t four;
  __builtin_memcpy(&four, input, sizeof four);
  return set1_i32(four);
}

template <codes_as C>
constexpr int code_bytes = step_columns* panel_columns / (C == codes_as::nibbles ? 2 : 1);  // of one step

/// acc += w by a, for all rows and vectors.
template <codes_as C, int M, int V, class Weight, class Input>
FASTSERVE_INLINE void multiply_four(i32v (&acc)[M][V], Weight weight, Input input) {
  const auto dot = [](i32v sums, i32v w, i32v a) {
    return C == codes_as::bytes ? dot_8(sums, w, a) : dot_u4(sums, w, a);
  };
  // The fewer of the two stay in registers.
  if constexpr (V > M) {
    i32v a[M];
    FASTSERVE_UNROLL(16)
    for (int i = 0; i < M; ++i) a[i] = input(i);
    FASTSERVE_UNROLL(8)
    for (int v = 0; v < V; ++v) {
      const i32v w = weight(v);
      FASTSERVE_UNROLL(16)
      for (int i = 0; i < M; ++i) acc[i][v] = dot(acc[i][v], w, a[i]);
    }
  } else {
    i32v w[V];
    FASTSERVE_UNROLL(8)
    for (int v = 0; v < V; ++v) w[v] = weight(v);
    FASTSERVE_UNROLL(16)
    for (int i = 0; i < M; ++i) {
      const i32v a = input(i);
      FASTSERVE_UNROLL(8)
      for (int v = 0; v < V; ++v) acc[i][v] = dot(acc[i][v], w[v], a);
    }
  }
}

/// Vector `v` of a panel's codes for the `k`-th four columns.
template <codes_as C>
FASTSERVE_INLINE i32v codes_at(const char* codes, int k, int v) {
  constexpr int vector_bytes = lanes * 4;
  constexpr int held = C == codes_as::nibbles ? 2 : 1;  // fours of columns in one vector of memory
  const i32v w = load_i32(codes + (k / held * tile_vectors + v) * vector_bytes);
  if constexpr (C != codes_as::nibbles) return w;
  return k % held == 0 ? low_nibbles(w) : high_nibbles(w);
}

/// acc += dot products over step_columns columns. codes: of each panel.
template <codes_as C, int M, int P>
FASTSERVE_INLINE void multiply_step(i32v (&acc)[M][P * tile_vectors], const char* input,
                                    const char* const (&codes)[P]) {
  FASTSERVE_UNROLL(4)
  for (int k = 0; k < step_columns / 4; ++k) {
    multiply_four<C>(
        acc, [&](int v) { return codes_at<C>(codes[v / tile_vectors], k, v % tile_vectors); },
        [&](int i) { return four_codes(input + i * record_bytes + 4 * k); });
  }
}

/// acc += dot products over Steps times step_columns columns, at most 32, of codes of 0 to 15: two products
/// of 15 x 127 fit eight times into 16 bits, where adding them takes one instruction and not two.
template <codes_as C, int M, int P, int Steps>
FASTSERVE_INLINE void multiply_short(i32v (&acc)[M][P * tile_vectors], const char* input,
                                     const char* const (&codes)[P]) {
  static_assert(C != codes_as::bytes && Steps * step_columns <= 32);
  constexpr int V = P * tile_vectors;
  i32v sums[M][V];
  FASTSERVE_UNROLL(8)
  for (int k = 0; k < Steps * step_columns / 4; ++k) {
    i32v w[V];
    FASTSERVE_UNROLL(8)
    for (int v = 0; v < V; ++v) w[v] = codes_at<C>(codes[v / tile_vectors], k, v % tile_vectors);
    FASTSERVE_UNROLL(16)
    for (int i = 0; i < M; ++i) {
      const i32v a = four_codes(input + i * record_bytes + 4 * k);
      FASTSERVE_UNROLL(8)
      for (int v = 0; v < V; ++v) {
        const i32v pairs = short_dot_u4(w[v], a);
        sums[i][v] = k == 0 ? pairs : add_short(sums[i][v], pairs);
      }
    }
  }
  FASTSERVE_UNROLL(16)
  for (int i = 0; i < M; ++i) {
    FASTSERVE_UNROLL(8)
    for (int v = 0; v < V; ++v) acc[i][v] += sums_of_short(sums[i][v]);
  }
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
