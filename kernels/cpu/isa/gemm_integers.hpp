#pragma once

// out = in * w^T for grouped integers and int8 rows. Per fold (table.hpp) the codes are multiplied in exact
// integers; then, in f32,
//   part += s_w * dot      over the folds of a record of 128 columns, in rising order
//   sum  += s_row * part   over the records, in rising order
// so that an element's bits depend on neither tile nor block. Signed codes are stored shifted, so that bytes
// are multiplied as the instruction wants them; the shift times the row's sum over the fold is where a dot
// product begins. Registers hold the dot products and parts of a tile; sums rest in L1 or L2 between records.

#include "kernels/cpu/isa/gemm.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

constexpr int integer_block_rows = 48 * integer_tile_rows;
constexpr int integer_block_panels = 8;
constexpr int block_records = 4;  // for several tiles: 16 KiB of int8 codes stay in L1
constexpr std::int64_t integer_partial_floats =
    static_cast<std::int64_t>(integer_block_rows) * panel_columns * integer_block_panels;
constexpr int integer_few_tiles = 6;
constexpr int step_columns = 16;  // multiplied between two fetches

/// What a tile needs besides its rows.
struct integer_tile {
  const integer_panels* weights;
  const char* input;        // first row's record of this k block
  std::int64_t input_step;  // to the next record
  const char* panel;
  std::int64_t fold_first, fold_last;
  float* sums;  // of tile and panel, [rows][panel_columns]
  bool resume;  // add to `sums`
  bool finish;  // write to `out` and not to `sums`
  const char* ahead;
  std::int64_t ahead_step;  // bytes for every step_columns
  float* out;
  std::int64_t out_stride;
  const float* bias;
  int columns;
  bool accumulate;
};

FASTSERVE_INLINE const q8_record& record_at(const char* input, int row) {
  return reinterpret_cast<const q8_record*>(input)[row];
}

template <int Bits>
constexpr int code_bytes = step_columns* panel_columns* Bits / 8;  // of one step of columns

/// acc += dot products over step_columns columns.
template <int Bits, int M>
FASTSERVE_INLINE void multiply_step(i32v (&acc)[M][tile_vectors], const char* input, const char* codes) {
  constexpr int vector_bytes = lanes * 4;
  const auto one = [&](int k, const i32v(&w)[tile_vectors]) {
    FASTSERVE_UNROLL(16)
    for (int i = 0; i < M; ++i) {
      std::int32_t four;
      __builtin_memcpy(&four, input + i * record_bytes + 4 * k, sizeof four);
      const i32v a = set1_i32(four);
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < tile_vectors; ++v)
        acc[i][v] = Bits == 8 ? dot_8(acc[i][v], w[v], a) : dot_u4(acc[i][v], w[v], a);
    }
  };
  if constexpr (Bits == 8) {
    FASTSERVE_UNROLL(4)
    for (int k = 0; k < step_columns / 4; ++k) {
      i32v w[tile_vectors];
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < tile_vectors; ++v) w[v] = load_i32(codes + (k * tile_vectors + v) * vector_bytes);
      one(k, w);
    }
  } else {
    FASTSERVE_UNROLL(2)
    for (int k = 0; k < step_columns / 8; ++k) {
      i32v raw[tile_vectors];
      i32v w[tile_vectors];
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < tile_vectors; ++v) {
        raw[v] = load_i32(codes + (k * tile_vectors + v) * vector_bytes);
        w[v] = low_nibbles(raw[v]);
      }
      one(2 * k, w);
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < tile_vectors; ++v) w[v] = high_nibbles(raw[v]);
      one(2 * k + 1, w);
    }
  }
}

FASTSERVE_INLINE void load_scales(f32v (&to)[tile_vectors], const char* from, bool wide) {
  FASTSERVE_UNROLL(4)
  for (int v = 0; v < tile_vectors; ++v)
    to[v] = wide ? load(reinterpret_cast<const float*>(from) + v * lanes)
                 : load(reinterpret_cast<const f16*>(from) + v * lanes);
}

/// part += s_w * dot. `sum` names the rows' sums over the fold.
template <zeros Z, int M>
FASTSERVE_INLINE void fold(f32v (&part)[M][tile_vectors], const i32v (&acc)[M][tile_vectors],
                           const integer_panels& w, const char* scales, const char* input, int sum) {
  f32v scale[tile_vectors];
  f32v zero_of[tile_vectors];
  load_scales(scale, scales, w.wide_scales);
  if constexpr (Z != zeros_none) {
    load_scales(zero_of, scales + panel_columns * (w.wide_scales ? 4 : 2),
                w.wide_scales && Z == zeros_offset);
  }
  FASTSERVE_UNROLL(16)
  for (int i = 0; i < M; ++i) {
    f32v over = zero();
    if constexpr (Z != zeros_none) over = to_f32(set1_i32(record_at(input, i).sums[sum]));
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < tile_vectors; ++v) {
      f32v dot = to_f32(acc[i][v]);
      if constexpr (Z == zeros_integer) dot = fma(zero() - zero_of[v], over, dot);  // exact
      part[i][v] = fma(dot, scale[v], part[i][v]);
      if constexpr (Z == zeros_offset) part[i][v] = fma(zero_of[v], over, part[i][v]);
    }
  }
}

template <int Bits, int M, bool Stream>
void multiply_integers(const integer_tile& tile) {
  const integer_panels& w = *tile.weights;
  const int steps = w.columns / step_columns;
  const int sums_at = first_sum(w.columns);
  const i32v shift = set1_i32(-w.shift);
  const char* panel_codes = tile.panel + tile.fold_first * w.fold_bytes;
  const char* scales = tile.panel + w.scales_at + tile.fold_first * w.scales_step;
  const char* input = tile.input;
  const char* ahead = tile.ahead;
  if (!tile.resume)
    for (int i = 0; i < M * panel_columns; i += lanes) store(tile.sums + i, zero());

  for (std::int64_t left = tile.fold_last - tile.fold_first; left > 0;) {
    const std::int64_t most = record_columns / w.columns;
    const int folds = static_cast<int>(left < most ? left : most);
    f32v part[M][tile_vectors];
    FASTSERVE_UNROLL(16)
    for (int i = 0; i < M; ++i) {
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < tile_vectors; ++v) part[i][v] = zero();
    }
    for (int f = 0; f < folds; ++f) {
      const char* codes = panel_codes;
      panel_codes += w.fold_bytes;
      i32v acc[M][tile_vectors];
      FASTSERVE_UNROLL(16)
      for (int i = 0; i < M; ++i) {
        const i32v start = shift * set1_i32(record_at(input, i).sums[sums_at + f]);
        FASTSERVE_UNROLL(4)
        for (int v = 0; v < tile_vectors; ++v) acc[i][v] = start;
      }
      const char* row_codes = input + f * w.columns;
      for (int step = 0; step < steps; ++step) {
        if constexpr (Stream) {
          FASTSERVE_UNROLL(8)
          for (int p = 0; p < code_bytes<Bits>; p += 64) prefetch_l1(codes + stream_ahead_bytes + p);
        } else {
          for (std::int64_t p = 0; p < tile.ahead_step; p += 64) prefetch_l2(ahead + p);
          ahead += tile.ahead_step;
        }
        multiply_step<Bits, M>(acc, row_codes, codes);
        row_codes += step_columns;
        codes += code_bytes<Bits>;
      }
      if (w.zero == zeros_none) {
        fold<zeros_none, M>(part, acc, w, scales, input, sums_at + f);
      } else if (w.zero == zeros_integer) {
        fold<zeros_integer, M>(part, acc, w, scales, input, sums_at + f);
      } else {
        fold<zeros_offset, M>(part, acc, w, scales, input, sums_at + f);
      }
      scales += w.scales_step;
    }
    FASTSERVE_UNROLL(16)
    for (int i = 0; i < M; ++i) {
      const f32v row_scale = set1(record_at(input, i).scale);
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < tile_vectors; ++v) {
        float* at = tile.sums + i * panel_columns + v * lanes;
        store(at, fma(part[i][v], row_scale, load(at)));
      }
    }
    __asm__ volatile("" ::: "memory");  // the sums stay in memory: registers are for the rest
    input += tile.input_step;
    left -= folds;
  }
  if (!tile.finish) return;
  for (int v = 0; v < tile_vectors; ++v) {
    int n = tile.columns - v * lanes;
    n = n < 0 ? 0 : n < lanes ? n : lanes;
    const f32v bias = tile.bias == nullptr ? zero() : load_n(tile.bias + v * lanes, n);
    for (int i = 0; i < M; ++i) {
      float* to = tile.out + i * tile.out_stride + v * lanes;
      f32v y = load(tile.sums + i * panel_columns + v * lanes);
      if (tile.bias != nullptr) y = y + bias;
      if (tile.accumulate) y = load_n(to, n) + y;
      store_n(to, y, n);
    }
  }
}

template <int Bits, bool Stream, int M = integer_tile_rows>
FASTSERVE_INLINE void multiply_integer_rows(int rows, const integer_tile& tile) {
  if (rows == M) return multiply_integers<Bits, M, Stream>(tile);
  if constexpr (M > 1) multiply_integer_rows<Bits, Stream, M - 1>(rows, tile);
}

/// All tiles of the job by one panel over folds [from, to).
template <int Bits>
void multiply_integer_panel(const integer_job& job, std::int64_t panel, std::int64_t from, std::int64_t to,
                            const char* ahead, float* sums) {
  const integer_panels& w = job.weights;
  const std::int64_t record = from * w.columns / record_columns;
  const std::int64_t columns = job.columns - panel * panel_columns;
  integer_tile tile{};
  tile.weights = &w;
  tile.input_step = job.input_step;
  tile.panel = w.data + panel * w.panel_bytes;
  tile.fold_first = from;
  tile.fold_last = to;
  tile.resume = from > 0;
  tile.finish = to == w.folds;
  tile.out_stride = job.out_stride;
  tile.bias = job.bias == nullptr ? nullptr : job.bias + panel * panel_columns;
  tile.columns = static_cast<int>(columns < panel_columns ? columns : panel_columns);
  tile.accumulate = job.accumulate;
  // The tiles fetch in equal parts, of whole lines, what comes after.
  const std::int64_t steps = (to - from) * (w.columns / step_columns);
  const std::int64_t bytes = (to - from) * w.fold_bytes;
  const std::int64_t parts = steps * (job.tile_last - job.tile_first);
  tile.ahead_step = ahead == nullptr ? 0 : (bytes / 64 + parts - 1) / parts * 64;
  for (std::int64_t t = job.tile_first; t < job.tile_last; ++t) {
    const std::int64_t row = tile_begin(job.rows, job.tiles, t);
    const int rows = static_cast<int>(tile_begin(job.rows, job.tiles, t + 1) - row);
    tile.input = job.input + record * job.input_step + row * record_bytes;
    tile.sums = sums;
    tile.out = job.out + row * job.out_stride + panel * panel_columns;
    if (job.tiles == 1) {
      multiply_integer_rows<Bits, true>(rows, tile);
    } else {
      const std::int64_t done = (t - job.tile_first) * steps * tile.ahead_step;
      tile.ahead = ahead == nullptr || done >= bytes ? nullptr : ahead + done;
      if (tile.ahead == nullptr) tile.ahead_step = 0;
      multiply_integer_rows<Bits, false>(rows, tile);
    }
    sums += rows * panel_columns;
  }
}

template <int Bits>
void gemm_integers_of(const integer_job& job) {
  const integer_panels& w = job.weights;
  const std::int64_t job_rows =
      tile_begin(job.rows, job.tiles, job.tile_last) - tile_begin(job.rows, job.tiles, job.tile_first);
  const std::int64_t block = block_records * (record_columns / w.columns);
  if (job.tiles <= integer_few_tiles) {
    // Panel after panel from end to end, as memory feeds them. A single tile fetches a fixed distance ahead;
    // several use a block while it is in L1, and fetch between them the one that follows.
    const std::int64_t step = job.tiles == 1 ? w.folds : block;
    for (std::int64_t panel = job.panel_first; panel < job.panel_last; ++panel) {
      for (std::int64_t from = 0; from < w.folds; from += step) {
        const std::int64_t to = w.folds - from < step ? w.folds : from + step;
        const char* ahead = w.data + panel * w.panel_bytes + to * w.fold_bytes;
        multiply_integer_panel<Bits>(job, panel, from, to, ahead, job.partials);
      }
    }
    return;
  }
  for (std::int64_t from = 0; from < w.folds; from += block) {
    const std::int64_t to = w.folds - from < block ? w.folds : from + block;
    for (std::int64_t panel = job.panel_first; panel < job.panel_last; ++panel) {
      const char* ahead = nullptr;
      if (panel + 1 < job.panel_last) {
        ahead = w.data + (panel + 1) * w.panel_bytes + from * w.fold_bytes;
      } else if (to < w.folds) {
        ahead = w.data + job.panel_first * w.panel_bytes + to * w.fold_bytes;
      }
      float* sums = job.partials + (panel - job.panel_first) * job_rows * panel_columns;
      multiply_integer_panel<Bits>(job, panel, from, to, ahead, sums);
    }
  }
}

void gemm_integers(const integer_job& job) {
  if (job.weights.bits == 8) return gemm_integers_of<8>(job);
  gemm_integers_of<4>(job);
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
