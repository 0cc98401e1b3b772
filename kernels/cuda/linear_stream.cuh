#pragma once

#include "kernels/cuda/linear_units.cuh"

// Few rows: weights are read once, at the memory's speed. A block has a warp for every segment of k, which
// share MT * 16 features and NT * 8 rows; more rows are further blocks.

namespace fastserve::kernels::cuda {

/// Rows of the product from global memory; those that are not there are zero.
template <class Form>
struct global_rows {
  const product& p;
  std::int64_t row;  // of the first tile of rows
  std::int64_t unit = 0;

  FASTSERVE_DEVICE vec4 piece(int n, int half) const {
    const int lane = thread_index() % warp_lanes;
    const std::int64_t r = row + 8 * n + lane / 4;
    if (r >= p.rows) return vec4{};
    return *reinterpret_cast<const vec4*>(p.input + r * p.row_bytes + unit * p.unit_bytes + half * 64 +
                                          lane % 4 * 16);
  }
  FASTSERVE_DEVICE float scale(int n, int column) const {
    const std::int64_t r = row + 8 * n + thread_index() % 4 * 2 + column;
    if (r >= p.rows) return 0.0F;
    return *reinterpret_cast<const float*>(p.input + r * p.row_bytes + unit * p.unit_bytes + q8_record_bytes -
                                           4);
  }
};

inline constexpr int stream_threads = segments * warp_lanes;

template <int NT>
constexpr std::size_t stream_shared_bytes() {
  return sizeof(float) * segments * NT * 4 * warp_lanes;
}

template <class Form, int MT, int NT>
__global__ void __launch_bounds__(stream_threads) stream_product(product p) {
  constexpr int ahead = MT == 1 ? 16 / Form::vectors / 2 : 4 / Form::vectors;  // units of weights in flight
  constexpr int depth = ahead < 1 ? 1 : ahead > 4 ? 4 : ahead;
  const int segment = thread_index() / warp_lanes;
  const int lane = thread_index() % warp_lanes;
  const std::int64_t tiles = (p.features + tile_features - 1) / tile_features;
  const std::int64_t tile = block_x() * MT;
  const std::int64_t length = segment_units(p.units);
  const std::int64_t first = segment * length;
  const std::int64_t last = first + length < p.units ? first + length : p.units;

  sums<MT, NT> s;
  clear(s);
  global_rows<Form> input{p, block_y() * NT * 8};
  vec4 w[depth][MT][Form::vectors];
#pragma unroll
  for (int d = 0; d < depth; ++d)
    if (first + d < last) load_tiles<Form, MT>(w[d], p, tile, tiles, first + d);
  for (std::int64_t u = first; u < last; u += depth) {
#pragma unroll
    for (int d = 0; d < depth; ++d) {
      if (u + d >= last) break;
      vec4 mine[MT][Form::vectors];
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int v = 0; v < Form::vectors; ++v) mine[m][v] = w[d][m][v];
      if (u + d + depth < last) load_tiles<Form, MT>(w[d], p, tile, tiles, u + d + depth);
      input.unit = u + d;
      multiply(Form{}, s, mine, p, tile, u + d, input);
    }
  }

  // [segment][tile of rows, register][lane], one tile of features at a time.
  auto* parts = static_cast<float*>(shared_memory());
  constexpr int size = NT * 4 * warp_lanes;
  const int used = static_cast<int>((p.units + length - 1) / length);
#pragma unroll
  for (int m = 0; m < MT; ++m) {
    if (m > 0) sync_block();
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) parts[segment * size + (n * 4 + i) * warp_lanes + lane] = s.at[m][n][i];
    sync_block();
    for (int e = thread_index(); e < size; e += stream_threads) {
      float sum = parts[e];
      for (int part = 1; part < used; ++part) sum += parts[part * size + e];
      const int i = e / warp_lanes % 4;
      const int n = e / warp_lanes / 4;
      const int g = e % warp_lanes / 4;
      const int t = e % 4;
      finish<Form>(p, {sum}, [&](int) {
        return element_place{block_y() * NT * 8 + 8 * n + 2 * t + i % 2,
                             (tile + m) * tile_features + g + i / 2 * 8};
      });
    }
  }
}

template <class Form, int MT, int NT>
void launch_stream(const char* what, const product& p, cudaStream_t on) {
  launch(what, stream_product<Form, MT, NT>,
         {(p.tiles() + MT - 1) / MT, (p.rows + NT * 8 - 1) / (NT * 8), stream_threads,
          stream_shared_bytes<NT>(), on},
         p);
}

}  // namespace fastserve::kernels::cuda
