#pragma once

// out = in * w^T. One output element is one chain of multiply-adds over k in rising order, kept in f32; where
// k is cut into blocks the chain rests in memory and goes on. Tiles of any number of rows therefore give
// equal bits.
//
// Weights: [panel][units][panel columns], a unit being one element, or two bf16 for has_dot. The rows' layout
// is told at line_units in table.hpp. Of a job with several tiles, one k block of one panel stays in L1 while
// all tiles pass over it; the rows' k block stays in L2 for a few panels.

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

constexpr int panel_columns = tile_vectors * lanes;
constexpr std::int64_t block_units = lanes == 16 ? 128 : 256;  // of a panel 16 KiB: half of a small L1
constexpr int block_rows = 24 * tile_rows;
constexpr int block_panels = 8;
constexpr int stream_ahead_bytes =
    8192;                             // how far a single tile fetches its weights ahead, which memory feeds
constexpr int input_ahead_lines = 4;  // likewise each row of a tile, which L2 or L3 feeds
/// Of 16-bit weights that are multiplied as f32 by so many tiles or more, parts of a block are widened once.
constexpr std::int64_t widen_tiles = 3;
constexpr std::int64_t widened_units = 128;  // 16 KiB
static_assert(block_units % widened_units == 0 && widened_units % line_units == 0);
constexpr std::int64_t partial_floats = static_cast<std::int64_t>(block_rows) * panel_columns * block_panels;

struct plain_f32 {
  using element = float;
};
struct plain_f16 {
  using element = f16;
};
struct plain_bf16 {
  using element = bf16;
};
struct pairs_bf16 {
  using element = float;  // as wide as a pair
};
template <bool Dot>
struct bf16_choice {
  using type = plain_bf16;
};
template <>
struct bf16_choice<true> {
  using type = pairs_bf16;
};
using bf16_weights = bf16_choice<has_dot>::type;

template <class W>
constexpr std::int64_t unit_bytes = panel_columns* static_cast<std::int64_t>(sizeof(typename W::element));

template <class W>
FASTSERVE_INLINE const char* weights_at(const gemm_job& job, std::int64_t panel, std::int64_t unit) {
  return static_cast<const char*>(job.weights) + (panel * job.units + unit) * unit_bytes<W>;
}

template <class W>
constexpr bool widens = sizeof(typename W::element) == 2;

template <class W>
FASTSERVE_INLINE f32v multiply_add(f32v a, f32v b, f32v sums) {
  return fma(a, b, sums);
}
template <>
FASTSERVE_INLINE f32v multiply_add<pairs_bf16>(f32v a, f32v b, f32v sums) {
  return dot2(a, b, sums);
}

/// What a tile needs besides its rows.
struct tile_job {
  const float* input;   // lines of this tile from this k block on
  const char* weights;  // this panel from this k block on
  std::int64_t units;
  float* sums;              // running sums of tile and panel, [rows][panel_columns]
  bool resume;              // start from `sums`
  bool finish;              // write to `out` and not to `sums`
  const char* ahead;        // memory wanted next, to be fetched while this is multiplied,
  std::int64_t ahead_step;  // so many bytes on with each unit
  const float* rows_ahead;  // likewise lines of this tile in the next k block, or null
  float* out;               // first row, first column of the panel
  std::int64_t out_stride;
  const float* bias;  // of the panel, or null
  int columns;        // of the panel that exist
  bool accumulate;
  bool fetch_ahead;
};

template <class W, int M>
FASTSERVE_INLINE void multiply_unit(f32v (&acc)[M][tile_vectors], const float* rows,
                                    const typename W::element* weights) {
  f32v b[tile_vectors];
  FASTSERVE_UNROLL(4)
  for (int v = 0; v < tile_vectors; ++v) b[v] = load(weights + v * lanes);
  FASTSERVE_UNROLL(16)
  for (int i = 0; i < M; ++i) {
    const f32v a = set1(rows[i * line_units]);
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < tile_vectors; ++v) acc[i][v] = multiply_add<W>(a, b[v], acc[i][v]);
  }
}

/// The sums of a tile and one panel to where they belong.
template <int M>
FASTSERVE_INLINE void write_out(const f32v (&acc)[M][tile_vectors], const tile_job& job) {
  FASTSERVE_UNROLL(4)
  for (int v = 0; v < tile_vectors; ++v) {
    int n = job.columns - v * lanes;
    n = n < 0 ? 0 : n < lanes ? n : lanes;
    const f32v bias = job.bias == nullptr ? zero() : load_n(job.bias + v * lanes, n);
    FASTSERVE_UNROLL(16)
    for (int i = 0; i < M; ++i) {
      float* to = job.out + i * job.out_stride + v * lanes;
      f32v y = acc[i][v];
      if (job.bias != nullptr) y = y + bias;
      if (job.accumulate) y = load_n(to, n) + y;
      store_n(to, y, n);
    }
  }
}

template <class W, int M, bool Stream>
void multiply_tile(const tile_job& job) {
  f32v acc[M][tile_vectors];
  FASTSERVE_UNROLL(16)
  for (int i = 0; i < M; ++i) {
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < tile_vectors; ++v) {
      acc[i][v] = job.resume ? load(job.sums + i * panel_columns + v * lanes) : zero();
    }
  }
  const auto* weights = reinterpret_cast<const typename W::element*>(job.weights);
  const float* input = job.input;
  const char* ahead = job.ahead;
  if (!Stream && job.finish) {
    // Where the sums will go: of many rows that is out of the caches by now.
    for (int i = 0; i < M; ++i) {
      for (int v = 0; v < tile_vectors; ++v) prefetch_l1(job.out + i * job.out_stride + v * lanes);
    }
  }
  const std::int64_t ahead_step = Stream ? unit_bytes<W> : job.ahead_step;
  const float* rows_ahead = job.rows_ahead;
  std::int64_t left = job.units;
  for (; left >= line_units; left -= line_units) {
    if (!Stream && rows_ahead != nullptr) {
      for (int i = 0; i < M; ++i) prefetch_l2(rows_ahead + i * line_units);
      rows_ahead += M * line_units;
    }
    if (job.fetch_ahead) {
      for (int i = 0; i < M; ++i) prefetch_l1(input + (input_ahead_lines * M + i) * line_units);
    }
    FASTSERVE_UNROLL(2)
    for (int u = 0; u < line_units; ++u) {
      if constexpr (Stream) {
        if (job.fetch_ahead) {
          for (int p = 0; p < unit_bytes<W>; p += 64) prefetch_l1(ahead + p);
        }
      } else {
        prefetch_l2(ahead);
      }
      ahead += ahead_step;
      multiply_unit<W, M>(acc, input + u, weights);
      weights += panel_columns;
    }
    input += M * line_units;
  }
  for (int u = 0; u < static_cast<int>(left); ++u) {
    multiply_unit<W, M>(acc, input + u, weights);
    weights += panel_columns;
  }
  if (!job.finish) {
    FASTSERVE_UNROLL(16)
    for (int i = 0; i < M; ++i) {
      FASTSERVE_UNROLL(4)
      for (int v = 0; v < tile_vectors; ++v) store(job.sums + i * panel_columns + v * lanes, acc[i][v]);
    }
    return;
  }
  write_out<M>(acc, job);
}

template <class W, bool Stream, int M = tile_rows>
FASTSERVE_INLINE void multiply_rows(int rows, const tile_job& job) {
  if (rows == M) return multiply_tile<W, M, Stream>(job);
  if constexpr (M > 1) multiply_rows<W, Stream, M - 1>(rows, job);
}

/// All of k by one row and stream_panels panels, `panel_bytes` apart. job: of the first, columns of all.
template <class W>
void multiply_streams(const tile_job& job, std::int64_t panel_bytes) {
  f32v acc[stream_panels][1][tile_vectors];
  const typename W::element* weights[stream_panels];
  FASTSERVE_UNROLL(4)
  for (int p = 0; p < stream_panels; ++p) {
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < tile_vectors; ++v) acc[p][0][v] = zero();
    weights[p] = reinterpret_cast<const typename W::element*>(job.weights + p * panel_bytes);
  }
  for (std::int64_t u = 0; u < job.units; ++u) {
    FASTSERVE_UNROLL(4)
    for (int p = 0; p < stream_panels; ++p) {
      multiply_unit<W, 1>(acc[p], job.input + u, weights[p]);
      weights[p] += panel_columns;
    }
  }
  tile_job part = job;
  for (int p = 0; p < stream_panels; ++p) {
    write_out<1>(acc[p], part);
    part.out += panel_columns;
    part.columns -= panel_columns;
    if (part.bias != nullptr) part.bias += panel_columns;
  }
}

/// A range of k: units [from, from + units), where whole blocks are `step` long.
struct unit_range {
  std::int64_t from;
  std::int64_t units;
  std::int64_t step;
};

/// What a panel's tiles fetch meanwhile: the weights wanted next, `bytes` of them, in equal parts; and behind
/// the job's last panel the rows' next k block.
struct fetched_ahead {
  std::int64_t tile_bytes;      // of weights, of each tile
  std::int64_t unit_step;       // with each unit
  const float* rows = nullptr;  // all tiles', or null
  std::int64_t row_units = 0;   // of a row

  fetched_ahead(const gemm_job& job, std::int64_t panel, unit_range k, std::int64_t bytes) {
    const std::int64_t tiles = job.tile_last - job.tile_first;
    tile_bytes = (bytes + tiles - 1) / tiles;  // rounded up: a line left out is one that is waited for
    unit_step = (tile_bytes + k.units - 1) / k.units;
    const std::int64_t after = k.from + k.step;
    const std::int64_t left = (job.units + line_units - 1) / line_units * line_units - after;
    if (panel + 1 < job.panel_last || left <= 0) return;
    rows = job.input + after * job.rows;
    row_units = left < k.step ? left : k.step;
  }
};

/// `units` of a panel as f32.
template <class W>
void widen_panel(float* to, const char* from, std::int64_t units) {
  const auto* elements = reinterpret_cast<const typename W::element*>(from);
  for (std::int64_t i = 0; i < units * panel_columns; i += lanes) store(to + i, load(elements + i));
}

/// All tiles of the job by one panel, over one range of k. W: as the weights are stored. `ahead` holds the
/// weights wanted next, or is null.
template <class W>
void multiply_panel(const gemm_job& job, std::int64_t panel, unit_range k, const char* ahead, float* sums) {
  const std::int64_t padded = (job.units + line_units - 1) / line_units * line_units;
  const std::int64_t block = padded - k.from < k.step ? padded - k.from : k.step;
  const std::int64_t columns = job.columns - panel * panel_columns;
  tile_job tile{};
  tile.weights = weights_at<W>(job, panel, k.from);
  tile.units = k.units;
  tile.resume = k.from > 0;
  tile.finish = k.from + k.units == job.units;
  tile.out_stride = job.out_stride;
  tile.bias = job.bias == nullptr ? nullptr : job.bias + panel * panel_columns;
  tile.columns = static_cast<int>(columns < panel_columns ? columns : panel_columns);
  tile.accumulate = job.accumulate;
  tile.fetch_ahead = job.habits.fetch_ahead;
  const fetched_ahead next(job, panel, k, ahead == nullptr ? 0 : k.step * unit_bytes<W>);
  tile.ahead_step = next.unit_step;
  for (std::int64_t t = job.tile_first; t < job.tile_last; ++t) {
    const std::int64_t row = tile_begin(job.rows, job.tiles, t);
    const int rows = static_cast<int>(tile_begin(job.rows, job.tiles, t + 1) - row);
    tile.input = job.input + k.from * job.rows + row * block;
    tile.sums = sums;
    tile.out = job.out + row * job.out_stride + panel * panel_columns;
    if (job.tiles == 1) {
      tile.ahead = tile.weights + stream_ahead_bytes;
      multiply_rows<W, true>(rows, tile);
    } else {
      tile.ahead = ahead == nullptr ? tile.weights : ahead + (t - job.tile_first) * next.tile_bytes;
      tile.rows_ahead = next.rows == nullptr ? nullptr : next.rows + row * next.row_units;
      multiply_rows<W, false>(rows, tile);
    }
    sums += rows * panel_columns;
  }
}

/// The same for several tiles, with the weights widened on the way: equal bits, as widening is exact and the
/// order stays.
template <class W>
void multiply_widened(const gemm_job& job, std::int64_t panel, unit_range k, const char* ahead, float* sums) {
  alignas(64) float weights[widened_units * panel_columns];
  const std::int64_t padded = (job.units + line_units - 1) / line_units * line_units;
  const std::int64_t block = padded - k.from < k.step ? padded - k.from : k.step;
  const std::int64_t columns = job.columns - panel * panel_columns;
  tile_job tile{};
  tile.weights = reinterpret_cast<const char*>(weights);
  tile.out_stride = job.out_stride;
  tile.bias = job.bias == nullptr ? nullptr : job.bias + panel * panel_columns;
  tile.columns = static_cast<int>(columns < panel_columns ? columns : panel_columns);
  tile.accumulate = job.accumulate;
  tile.fetch_ahead = job.habits.fetch_ahead;
  const fetched_ahead next(job, panel, k, ahead == nullptr ? 0 : k.units * unit_bytes<W>);
  tile.ahead_step = next.unit_step;
  for (std::int64_t from = 0; from < k.units; from += widened_units) {
    tile.units = k.units - from < widened_units ? k.units - from : widened_units;
    tile.resume = k.from + from > 0;
    tile.finish = k.from + from + tile.units == job.units;
    widen_panel<W>(weights, weights_at<W>(job, panel, k.from + from), tile.units);
    float* at = sums;
    for (std::int64_t t = job.tile_first; t < job.tile_last; ++t) {
      const std::int64_t row = tile_begin(job.rows, job.tiles, t);
      const int rows = static_cast<int>(tile_begin(job.rows, job.tiles, t + 1) - row);
      tile.input = job.input + k.from * job.rows + row * block + from * rows;
      tile.sums = at;
      tile.out = job.out + row * job.out_stride + panel * panel_columns;
      tile.ahead = ahead == nullptr ? tile.weights
                                    : ahead + (t - job.tile_first) * next.tile_bytes + from * next.unit_step;
      tile.rows_ahead = next.rows == nullptr ? nullptr : next.rows + row * next.row_units + from * rows;
      multiply_rows<plain_f32, false>(rows, tile);
      at += rows * panel_columns;
    }
  }
}

/// A job of one row: as many of its panels as go into runs of stream_panels. Returns the first that is left.
template <class W>
std::int64_t multiply_runs(const gemm_job& job) {
  tile_job tile{};
  tile.input = job.input;
  tile.units = job.units;
  tile.out_stride = job.out_stride;
  tile.accumulate = job.accumulate;
  std::int64_t panel = job.panel_first;
  for (; panel + stream_panels <= job.panel_last; panel += stream_panels) {
    const std::int64_t columns = job.columns - panel * panel_columns;
    tile.weights = weights_at<W>(job, panel, 0);
    tile.out = job.out + panel * panel_columns;
    tile.bias = job.bias == nullptr ? nullptr : job.bias + panel * panel_columns;
    tile.columns =
        static_cast<int>(columns < stream_panels * panel_columns ? columns : stream_panels * panel_columns);
    multiply_streams<W>(tile, job.units * unit_bytes<W>);
  }
  return panel;
}

template <class W>
void gemm(const gemm_job& job) {
  std::int64_t first = job.panel_first;
  if constexpr (stream_panels > 1) {
    if (job.rows == 1) first = multiply_runs<W>(job);
  }
  const std::int64_t job_rows =
      tile_begin(job.rows, job.tiles, job.tile_last) - tile_begin(job.rows, job.tiles, job.tile_first);
  // A single tile keeps its sums in registers all along k.
  const std::int64_t step = job.tiles == 1 ? job.units : block_units;
  for (std::int64_t from = 0; from < job.units; from += step) {
    const unit_range k{from, job.units - from < step ? job.units - from : step, step};
    for (std::int64_t panel = first; panel < job.panel_last; ++panel) {
      const char* ahead = nullptr;
      if (panel + 1 < job.panel_last) {
        ahead = weights_at<W>(job, panel + 1, from);
      } else if (from + step < job.units) {
        ahead = weights_at<W>(job, first, from + step);
      }
      float* sums = job.partials + (panel - first) * job_rows * panel_columns;
      if constexpr (widens<W>) {
        if (job.tile_last - job.tile_first >= widen_tiles) {
          multiply_widened<W>(job, panel, k, ahead, sums);
          continue;
        }
      }
      multiply_panel<W>(job, panel, k, ahead, sums);
    }
  }
}

void pack_rows(float* out, const void* in, const pack_job& job) {
  constexpr std::int64_t line_bytes = line_units * 4;
  constexpr std::int64_t block_lines = block_units / line_units;
  for (std::int64_t line = job.line_first; line < job.line_last; ++line) {
    const std::int64_t block = line / block_lines * block_lines;
    const std::int64_t lines = job.lines - block < block_lines ? job.lines - block : block_lines;
    float* to = out + (block * job.total_rows + job.row * lines + (line - block) * job.rows) * line_units;
    const char* from = static_cast<const char*>(in) + job.row * job.stride_bytes + line * line_bytes;
    const std::int64_t left = job.row_bytes - line * line_bytes;
    for (int r = 0; r < job.rows; ++r, to += line_units, from += job.stride_bytes) {
      if (left >= line_bytes) {
        for (int i = 0; i < line_units; i += lanes)
          store(to + i, load(reinterpret_cast<const float*>(from) + i));
      } else {
        float padded[line_units] = {};
        if (left > 0) __builtin_memcpy(padded, from, static_cast<unsigned long>(left));
        for (int i = 0; i < line_units; i += lanes) store(to + i, load(padded + i));
      }
    }
  }
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
