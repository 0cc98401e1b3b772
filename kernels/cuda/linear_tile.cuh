#pragma once

#include "kernels/cuda/linear_units.cuh"

// Many rows: a block of 8 warps computes 128 features (of grouped integers 64) by 128 rows, each warp a
// quarter by half, segment after segment. Rows go through shared memory in three stages, weights from the
// second cache to the registers of the two warps that want them.

namespace fastserve::kernels::cuda {

inline constexpr int block_rows = 128;
inline constexpr int feature_warps = 4;  // of the block, side by side; two of them on the same features
inline constexpr int tile_threads = 256;
inline constexpr int stages = 3;
inline constexpr int staged_row_bytes = unit_row_bytes + 16;  // no two rows of a quarter warp in one bank
inline constexpr int stage_bytes = block_rows * staged_row_bytes;

struct staged_rows {
  const char* at;  // this warp's first row

  FASTSERVE_DEVICE vec4 piece(int n, int half) const {
    const int lane = thread_index() % warp_lanes;
    return *reinterpret_cast<const vec4*>(at + (8 * n + lane / 4) * staged_row_bytes + half * 64 +
                                          lane % 4 * 16);
  }
  FASTSERVE_DEVICE float scale(int n, int column) const {
    const int row = 8 * n + thread_index() % 4 * 2 + column;
    return *reinterpret_cast<const float*>(at + row * staged_row_bytes + staged_row_bytes - 4);
  }
};

/// Unit `u` of the block's rows, 16 bytes at a time. Of records also the last 16 bytes, which end in the
/// scale.
template <class Form>
FASTSERVE_DEVICE void stage_rows(char* to, const product& p, std::int64_t row, std::int64_t u) {
  constexpr int pieces = unit_row_bytes / 16 + (Form::record_scales ? 1 : 0);
  for (int i = thread_index(); i < block_rows * pieces; i += tile_threads) {
    const int r = i / pieces;
    const int piece = i % pieces;
    const bool present = row + r < p.rows;
    const bool scale = Form::record_scales && piece == pieces - 1;
    const char* from = p.input + (present ? row + r : 0) * p.row_bytes + u * p.unit_bytes +
                       (scale ? q8_record_bytes - 16 : piece * 16);
    copy_async(to + r * staged_row_bytes + piece * 16, from, present);
  }
}

template <class Form>
__global__ void __launch_bounds__(tile_threads) tile_product(product p) {
  constexpr int MT = Form::warp_tiles;
  constexpr int NT = 8;
  auto* memory = static_cast<char*>(shared_memory());
  const int warp = thread_index() / warp_lanes;
  const int lane = thread_index() % warp_lanes;
  const std::int64_t tiles = (p.features + tile_features - 1) / tile_features;
  const std::int64_t row = block_x() * block_rows;
  const std::int64_t tile = (block_y() * feature_warps + warp % feature_warps) * MT;
  const int warp_row = warp / feature_warps * (NT * 8);
  const std::int64_t length = segment_units(p.units);

  sums<MT, NT> s;
  sums<MT, NT> whole;
  clear(s);
  clear(whole);
  vec4 w[MT][Form::vectors];
  load_tiles<Form, MT>(w, p, tile, tiles, 0);
  for (int i = 0; i < stages - 1; ++i) {
    if (i < p.units) stage_rows<Form>(memory + i * stage_bytes, p, row, i);
    copy_async_commit();
  }
  std::int64_t left = length;  // of the segment
  bool first_segment = true;
  for (std::int64_t u = 0; u < p.units; ++u) {
    copy_async_wait<stages - 2>();
    sync_block();  // unit u is there for all, and all are done with unit u - 1
    if (u + stages - 1 < p.units)
      stage_rows<Form>(memory + (u + stages - 1) % stages * stage_bytes, p, row, u + stages - 1);
    copy_async_commit();
    vec4 mine[MT][Form::vectors];
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int v = 0; v < Form::vectors; ++v) mine[m][v] = w[m][v];
    if (u + 1 < p.units) load_tiles<Form, MT>(w, p, tile, tiles, u + 1);
    multiply(Form{}, s, mine, p, tile, u,
             staged_rows{memory + u % stages * stage_bytes + warp_row * staged_row_bytes});
    if (--left > 0 && u + 1 < p.units) continue;
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int n = 0; n < NT; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          whole.at[m][n][i] = first_segment ? s.at[m][n][i] : whole.at[m][n][i] + s.at[m][n][i];
    clear(s);
    first_segment = false;
    left = length;
  }
  copy_async_wait<0>();
#pragma unroll
  for (int m = 0; m < MT; ++m)
    finish<Form>(p, reinterpret_cast<const float(&)[NT * 4]>(whole.at[m]), [&](int i) {
      return element_place{row + warp_row + i / 4 * 8 + lane % 4 * 2 + i % 2,
                           (tile + m) * tile_features + lane / 4 + i % 4 / 2 * 8};
    });
}

template <class Form>
void launch_tile(const char* what, const product& p, cudaStream_t on) {
  launch(what, tile_product<Form>,
         {(p.rows + block_rows - 1) / block_rows,
          (p.tiles() + feature_warps * Form::warp_tiles - 1) / (feature_warps * Form::warp_tiles),
          tile_threads, std::size_t{stages} * stage_bytes, on},
         p);
}

}  // namespace fastserve::kernels::cuda
