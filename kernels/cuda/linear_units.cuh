#pragma once

#include "kernels/cuda/linear.hpp"
#include "kernels/cuda/mma.cuh"

// What a warp does with one unit of MT tiles of features and NT times 8 rows. Both kernels of a product call
// these, so that both do the same operations in the same order.

namespace fastserve::kernels::cuda {

template <class T>
struct float_form {
  static constexpr int vectors = 4;     // 16-byte pieces of a lane in a tile
  static constexpr int warp_tiles = 2;  // tiles of features of a warp where there are many rows
  static constexpr bool record_scales = false;
};
struct int8_form {
  static constexpr int vectors = 2;
  static constexpr int warp_tiles = 1;  // more would not fit the registers
  static constexpr bool record_scales = false;
};
struct int4_form {
  static constexpr int vectors = 1;
  static constexpr int warp_tiles = 1;
  static constexpr bool record_scales = false;
};
struct w8a8_form {
  static constexpr int vectors = 4;
  static constexpr int warp_tiles = 2;
  static constexpr bool record_scales = true;
};

/// Of an element of the output.
struct element_place {
  std::int64_t row, feature;
};

template <int MT, int NT>
struct sums {
  float at[MT][NT][4];
};

template <int MT, int NT>
FASTSERVE_DEVICE void clear(sums<MT, NT>& s) {
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) s.at[m][n][i] = 0.0F;
}

/// A lane's pieces of unit `u` of tiles [tile, tile + MT).
template <class Form, int MT>
FASTSERVE_DEVICE void load_tiles(vec4 (&to)[MT][Form::vectors], const product& p, std::int64_t tile,
                                 std::int64_t tiles, std::int64_t u) {
  constexpr int bytes = Form::vectors * warp_lanes * 16;
  const int lane = thread_index() % warp_lanes;
#pragma unroll
  for (int m = 0; m < MT; ++m) {
    const char* from = p.weights + ((tile + m) * p.units + u) * bytes + lane * 16;
#pragma unroll
    for (int v = 0; v < Form::vectors; ++v)
      to[m][v] = tile + m < tiles ? load_streaming(from + v * warp_lanes * 16) : vec4{};
  }
}

/// Weights that are operands as they lie.
template <class T, int MT, int NT, class Input>
FASTSERVE_DEVICE void multiply(float_form<T>, sums<MT, NT>& s, const vec4 (&w)[MT][4], const product&,
                               std::int64_t, std::int64_t, const Input& input) {
#pragma unroll
  for (int c = 0; c < 2; ++c) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      const vec4 b = input.piece(n, c);
#pragma unroll
      for (int step = 0; step < 2; ++step)
#pragma unroll
        for (int m = 0; m < MT; ++m)
          mma<T>(s.at[m][n], w[m][2 * c + step].x, b.x[2 * step], b.x[2 * step + 1]);
    }
  }
}

/// int8 by int8, exact; the input's scale of the unit is multiplied in here, the weight's at the end of the
/// product.
template <int MT, int NT, class Input>
FASTSERVE_DEVICE void multiply(w8a8_form, sums<MT, NT>& s, const vec4 (&w)[MT][4], const product&,
                               std::int64_t, std::int64_t, const Input& input) {
#pragma unroll
  for (int n = 0; n < NT; ++n) {
    const vec4 b[2] = {input.piece(n, 0), input.piece(n, 1)};
    const float scale[2] = {input.scale(n, 0), input.scale(n, 1)};
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      std::int32_t dots[4] = {0, 0, 0, 0};
#pragma unroll
      for (int step = 0; step < 4; ++step)
        mma_i8(dots, w[m][step].x, b[step / 2].x[step % 2 * 2], b[step / 2].x[step % 2 * 2 + 1]);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        s.at[m][n][i] = fma(scale[i % 2], static_cast<float>(dots[i]), s.at[m][n][i]);
    }
  }
}

/// What codes of one group stand for, for a lane's two rows: scale * (code - zero) + offset.
struct group_numbers {
  std::uint32_t scale[2];   ///< bf16, twice in a register
  std::uint32_t offset[2];  ///< likewise
  std::uint32_t base[2];    ///< of int4 bf16 128 + zero, twice; of int8 2^23 + zero, as the bits of a float
};

/// `scales`, `zeros`: of row g in the low half, of row g + 8 in the high one. `zeros` are offsets where the
/// format has those.
template <class Form>
FASTSERVE_DEVICE group_numbers numbers_of(zero_kind kind, std::uint32_t scales, std::uint32_t zeros) {
  constexpr bool bytes = Form::vectors == 2;
  group_numbers n;
  n.scale[0] = low_twice(scales);
  n.scale[1] = high_twice(scales);
  if (kind == zero_kind::integer) {
    n.base[0] = bytes ? 0x4b000000U | (zeros & 0xffffU) : 0x43004300U | low_twice(zeros);
    n.base[1] = bytes ? 0x4b000000U | zeros >> 16 : 0x43004300U | high_twice(zeros);
  } else {
    const std::uint32_t middle = kind == zero_kind::none ? (bytes ? 0x80U : 0x00080008U) : 0U;
    n.base[0] = n.base[1] = (bytes ? 0x4b000000U : 0x43004300U) | middle;
  }
  n.offset[0] = kind == zero_kind::offset ? low_twice(zeros) : 0U;
  n.offset[1] = kind == zero_kind::offset ? high_twice(zeros) : 0U;
  return n;
}

/// Codes of one step of 16 columns to the operand: rounded to bf16 once, by an fma of exact code - zero.
/// a[0], a[2] are of row g, the others of g + 8.
FASTSERVE_DEVICE void decode(int8_form, std::uint32_t (&a)[4], const vec4 (&w)[2], int step,
                             const group_numbers& by) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const std::uint32_t word = w[step / 2].x[step % 2 * 2 + r / 2] >> (r % 2 * 16);
    // 2^23 + code, as the bits of a float: no conversion from integers, of which there are few units.
    const float base = float_of(by.base[r % 2]);
    const std::uint32_t code = pack2<bf16>(float_of(0x4b000000U | (word & 0xffU)) - base,
                                           float_of(0x4b000000U | (word >> 8 & 0xffU)) - base);
    a[r] = fma_bf16x2(code, by.scale[r % 2], by.offset[r % 2]);
  }
}
FASTSERVE_DEVICE void decode(int4_form, std::uint32_t (&a)[4], const vec4 (&w)[1], int step,
                             const group_numbers& by) {
  const std::uint32_t word = w[0].x[step];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    // Nibbles lie a0 a2 a1 a3 in either half. 0x4300 is 128, whose last bit counts ones.
    const int shift = 4 * (r % 2 * 2 + r / 2);
    const std::uint32_t code =
        subtract_bf16x2(and_or(word >> shift, 0x000f000fU, 0x43004300U), by.base[r % 2]);
    a[r] = fma_bf16x2(code, by.scale[r % 2], by.offset[r % 2]);
  }
}

/// Of a column of a tile of features, for this lane's rows.
template <class Form>
FASTSERVE_DEVICE group_numbers numbers_at(const product& p, std::int64_t tile, std::int64_t column) {
  const int g = thread_index() % warp_lanes / 4;
  std::int64_t group = column >> p.group_shift;
  group = group < p.groups ? group : p.groups - 1;  // of the last unit, beyond the last column
  const auto both = [&](const void* of) {
    const auto* from = static_cast<const std::uint16_t*>(of) + (tile * p.groups + group) * tile_features + g;
    return std::uint32_t{from[0]} | std::uint32_t{from[8]} << 16;
  };
  return numbers_of<Form>(p.zero, both(p.scales), p.zero == zero_kind::none ? 0U : both(p.zeros));
}

/// Grouped integers, opened to bf16.
template <class Form, int MT, int NT, class Input>
FASTSERVE_DEVICE void multiply(Form, sums<MT, NT>& s, const vec4 (&w)[MT][Form::vectors], const product& p,
                               std::int64_t tile, std::int64_t u, const Input& input) {
  const std::int64_t last_tile = (p.features - 1) / tile_features;
  const int t = thread_index() % 4;
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    std::uint32_t a[MT][2][4];
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      const std::int64_t of = tile + m < last_tile ? tile + m : last_tile;
      // This lane's codes are of columns 8 t to 8 t + 7 of the 32.
      const auto by = numbers_at<Form>(p, of, u * unit_columns + c * 32 + 8 * t);
#pragma unroll
      for (int step = 0; step < 2; ++step) decode(Form{}, a[m][step], w[m], 2 * c + step, by);
    }
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      const vec4 b = input.piece(n, c);
#pragma unroll
      for (int step = 0; step < 2; ++step)
#pragma unroll
        for (int m = 0; m < MT; ++m) mma<bf16>(s.at[m][n], a[m][step], b.x[2 * step], b.x[2 * step + 1]);
    }
  }
}

/// The end of elements, from the sums over their segments. at(i) is the place {row, feature} of sums[i]. What
/// is there is fetched for all before any is written: one after another they would wait for the memory each.
template <class Form, int Count, class At>
FASTSERVE_DEVICE void finish(const product& p, const float (&sums)[Count], At&& at) {
  constexpr int together = Count < 32 ? Count : 32;
  static_assert(Count % together == 0);
#pragma unroll
  for (int first = 0; first < Count; first += together) {
    float before[together];
    const auto there = [&](const element_place& e) { return e.row < p.rows && e.feature < p.features; };
    if (p.accumulate) {
#pragma unroll
      for (int i = 0; i < together; ++i) {
        const auto e = at(first + i);
        before[i] = there(e) ? p.out[e.row * p.out_stride + e.feature] : 0.0F;
      }
    }
#pragma unroll
    for (int i = 0; i < together; ++i) {
      const auto e = at(first + i);
      if (!there(e)) continue;
      float sum = sums[first + i];
      if (Form::record_scales) sum *= static_cast<const float*>(p.scales)[e.feature];
      if (p.bias != nullptr) sum += p.bias[e.feature];
      p.out[e.row * p.out_stride + e.feature] = p.accumulate ? before[i] + sum : sum;
    }
  }
}

}  // namespace fastserve::kernels::cuda
