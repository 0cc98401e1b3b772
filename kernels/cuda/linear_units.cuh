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

FASTSERVE_DEVICE float scale_at(const product& p, const void* of, std::int64_t tile, std::int64_t group,
                                int row) {
  group = group < p.groups ? group : p.groups - 1;  // of the last unit, beyond the last column
  const std::int64_t i = (tile * p.groups + group) * tile_features + row;
  return p.wide_scales ? static_cast<const float*>(of)[i] : to_float(static_cast<const f16*>(of)[i]);
}

/// Codes of one step of 16 columns to operands code - zero, exact in bf16. a[0], a[2] are of row g, the
/// others of g + 8.
FASTSERVE_DEVICE void decode(int8_form, std::uint32_t (&a)[4], const vec4 (&w)[2], int step,
                             const float (&zero)[2]) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const std::uint32_t word = w[step / 2].x[step % 2 * 2 + r / 2] >> (r % 2 * 16);
    // 2^23 + code, as the bits of a float: no conversion from integers, of which there are few units.
    const float base = 8388608.0F + zero[r % 2];
    a[r] = pack2<bf16>(float_of(0x4b000000U | (word & 0xffU)) - base,
                       float_of(0x4b000000U | (word >> 8 & 0xffU)) - base);
  }
}
FASTSERVE_DEVICE void decode(int4_form, std::uint32_t (&a)[4], const vec4 (&w)[1], int step,
                             const float (&zero)[2]) {
  const std::uint32_t base[2] = {pack2<bf16>(128.0F + zero[0], 128.0F + zero[0]),
                                 pack2<bf16>(128.0F + zero[1], 128.0F + zero[1])};
  const std::uint32_t word = w[0].x[step];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    // Nibbles lie a0 a2 a1 a3 in either half. 0x4300 is 128, whose last bit counts ones.
    const int shift = 4 * (r % 2 * 2 + r / 2);
    a[r] = subtract_bf16x2((word >> shift & 0x000f000fU) | 0x43004300U, base[r % 2]);
  }
}

/// Grouped integers by bf16. Pieces: groups of a unit, 1 (of 64 and more columns), 2 (of 32) or 4 (of 16).
template <int Pieces, class Form, int MT, int NT, class Input>
FASTSERVE_DEVICE void multiply_groups(sums<MT, NT>& s, const vec4 (&w)[MT][Form::vectors], const product& p,
                                      std::int64_t tile, std::int64_t u, const Input& input) {
  constexpr int bits = Form::vectors == 2 ? 8 : 4;
  const int lane = thread_index() % warp_lanes;
  const int g = lane / 4;
  const int t = lane % 4;
  const std::int64_t last_tile = (p.features - 1) / tile_features;
  std::uint32_t a[MT][4][4];
  float scale[MT][Pieces][2];
  float offset[MT][Pieces][2];
#pragma unroll
  for (int m = 0; m < MT; ++m) {
    const std::int64_t of = tile + m < last_tile ? tile + m : last_tile;
#pragma unroll
    for (int piece = 0; piece < Pieces; ++piece) {
      const std::int64_t group = (u * unit_columns + piece * (unit_columns / Pieces)) / p.group_columns;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        scale[m][piece][h] = scale_at(p, p.scales, of, group, g + 8 * h);
        offset[m][piece][h] = p.zero == zero_kind::offset ? scale_at(p, p.zeros, of, group, g + 8 * h) : 0.0F;
      }
    }
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      // This lane's codes are of columns 8 t to 8 t + 7 of the 32.
      const std::int64_t group =
          (u * unit_columns + c * 32 + (Pieces == 4 ? t / 2 * 16 : 0)) / p.group_columns;
      float zero[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        zero[h] = p.zero == zero_kind::none      ? static_cast<float>(1 << (bits - 1))
                  : p.zero == zero_kind::integer ? scale_at(p, p.zeros, of, group, g + 8 * h)
                                                 : 0.0F;
      }
#pragma unroll
      for (int step = 0; step < 2; ++step) decode(Form{}, a[m][2 * c + step], w[m], 2 * c + step, zero);
    }
  }
  constexpr int steps = Pieces == 1 ? 4 : 2;
#pragma unroll
  for (int n = 0; n < NT; ++n) {
    const vec4 b[2] = {input.piece(n, 0), input.piece(n, 1)};
#pragma unroll
    for (int piece = 0; piece < Pieces; ++piece) {
      constexpr int halves = Pieces / 2 > 0 ? Pieces / 2 : 1;
      const int first = Pieces == 1 ? 0 : piece / halves * 2;
      std::uint32_t x[4][2];
#pragma unroll
      for (int i = 0; i < steps; ++i) {
        const int step = first + i;
        // Where two groups share a step, the other one's columns count as zero.
        const bool mine = Pieces != 4 || t / 2 == piece % 2;
        x[i][0] = mine ? b[step / 2].x[step % 2 * 2] : 0U;
        x[i][1] = mine ? b[step / 2].x[step % 2 * 2 + 1] : 0U;
      }
      float total[4] = {0, 0, 0, 0};  // of the input's columns: what an offset multiplies
      if (p.zero == zero_kind::offset) {
        const std::uint32_t ones[4] = {0x3f803f80U, 0x3f803f80U, 0x3f803f80U, 0x3f803f80U};
#pragma unroll
        for (int i = 0; i < steps; ++i) mma<bf16>(total, ones, x[i][0], x[i][1]);
      }
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        float dots[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < steps; ++i) mma<bf16>(dots, a[m][first + i], x[i][0], x[i][1]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& to = s.at[m][n][i];
          to = fma(scale[m][piece][i / 2], dots[i], to);
          if (p.zero == zero_kind::offset) to = fma(offset[m][piece][i / 2], total[i], to);
        }
      }
    }
  }
}

template <class Form, int MT, int NT, class Input>
FASTSERVE_DEVICE void multiply(Form, sums<MT, NT>& s, const vec4 (&w)[MT][Form::vectors], const product& p,
                               std::int64_t tile, std::int64_t u, const Input& input) {
  if (p.group_columns >= 64) {
    multiply_groups<1, Form>(s, w, p, tile, u, input);
  } else if (p.group_columns == 32) {
    multiply_groups<2, Form>(s, w, p, tile, u, input);
  } else {
    multiply_groups<4, Form>(s, w, p, tile, u, input);
  }
}

/// The end of every element, from the sum over its segments.
template <class Form>
FASTSERVE_DEVICE void finish(const product& p, float sum, std::int64_t row, std::int64_t feature) {
  if (row >= p.rows || feature >= p.features) return;
  if (Form::record_scales) sum *= static_cast<const float*>(p.scales)[feature];
  if (p.bias != nullptr) sum += p.bias[feature];
  float* to = p.out + row * p.out_stride + feature;
  *to = p.accumulate ? *to + sum : sum;
}

}  // namespace fastserve::kernels::cuda
