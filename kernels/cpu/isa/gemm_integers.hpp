#pragma once

// out = in * w^T for grouped integers and int8 rows. Per fold (table.hpp) the codes are multiplied in exact
// integers; then, in f32,
//   part += s_w * dot      over the folds of a record of 128 columns, in rising order
//   sum  += s_row * part   over the records, in rising order
// so that an element's bits depend on neither tile nor block. Signed codes are stored shifted, so that bytes
// are multiplied as the instruction wants them; the shift times the row's sum over the fold is where a dot
// product begins. Registers hold the dot products and parts of a tile; sums rest in L1 or L2 between records.

#include "kernels/cpu/isa/dot_products.hpp"
#include "kernels/cpu/isa/open_nibbles.hpp"

namespace fastserve::kernels::cpu::FASTSERVE_ISA {
namespace {

constexpr int integer_block_rows = 48 * integer_tile_rows;
constexpr int integer_block_panels = 8;
constexpr std::int64_t integer_partial_floats =
    static_cast<std::int64_t>(integer_block_rows) * panel_columns * integer_block_panels;
constexpr int integer_few_tiles = 6;

/// Whether the parts of a record rest in registers beside the dot products: where folds are shorter than a
/// record, they are touched every few dot products.
template <int Columns>
constexpr bool parts_in_registers = room_for_parts&& Columns != record_columns;
/// Panels that one of several tiles multiplies at once. A dot product waits for the one before it: two units
/// with a latency of five want more than ten chains, and twice that leaves room for what is between them.
template <int Columns>
constexpr int panels_of_tile = parts_in_registers<Columns> ? 1 : tile_panels;
/// The same for a single tile of `rows` rows. It reads one stream of memory for each panel, and a core reads
/// several faster than one.
template <int Columns>
constexpr int panels_at_once(int rows) {
  constexpr int all = integer_tile_rows * panels_of_tile<Columns>;
  for (int panels = few_row_panels; panels > panels_of_tile<Columns>; panels /= 2) {
    if (rows * panels <= all) return panels;
  }
  return panels_of_tile<Columns>;
}
/// As many tiles and more gain by open_nibbles.hpp.
constexpr int opened_tiles = 4;
static_assert(integer_block_panels % few_row_panels == 0 && few_row_panels % tile_panels == 0);

/// What a tile needs besides its rows.
struct integer_tile {
  const integer_panels* weights;
  const char* input;        // first row's record of this k block
  std::int64_t input_step;  // to the next record
  const char* panel;        // the first of those multiplied at once
  int panels;               // how many of them exist; the others repeat the first and write nothing
  std::int64_t fold_first, fold_last;
  float* sums;               // of the tile, [rows][all columns of the panels multiplied at once]
  bool resume;               // add to `sums`
  bool finish;               // write to `out` and not to `sums`
  const char* ahead;         // wanted next in the first panel; in the others at the same place
  std::int64_t ahead_step;   // bytes for every step_columns
  std::int64_t ahead_panel;  // bytes from a panel to the next, there
  const char* rows_ahead;    // this tile's records in the next k block, wanted then, or null
  float* out;
  std::int64_t out_stride;
  const float* bias;
  int columns;
  bool accumulate;
  bool fetch_ahead;
};

FASTSERVE_INLINE f32v load_scale(const char* from, int v, bool wide) {
  return wide ? load(reinterpret_cast<const float*>(from) + v * lanes)
              : load(reinterpret_cast<const f16*>(from) + v * lanes);
}

/// What a fold of one panel brings: write(i, v, part so far (i, v) + s_w * dot). `sum` names the rows' sums
/// over the fold.
template <zeros Z, int M, int V, class Before, class Write>
FASTSERVE_INLINE void fold_with(const i32v (&acc)[M][V], int first, const integer_panels& w,
                                const char* scales, const char* input, int sum, Before before, Write write) {
  f32v scale[tile_vectors];
  f32v zero_of[tile_vectors];
  const char* zeros_at = scales + panel_columns * (w.wide_scales ? 4 : 2);
  FASTSERVE_UNROLL(4)
  for (int v = 0; v < tile_vectors; ++v) {
    scale[v] = load_scale(scales, v, w.wide_scales);
    zero_of[v] = Z == zeros_none ? zero() : load_scale(zeros_at, v, w.wide_scales && Z == zeros_offset);
  }
  FASTSERVE_UNROLL(16)
  for (int i = 0; i < M; ++i) {
    f32v over = zero();
    if constexpr (Z != zeros_none) over = to_f32(set1_i32(record_at(input, i).sums[sum]));
    FASTSERVE_UNROLL(4)
    for (int v = 0; v < tile_vectors; ++v) {
      f32v dot = to_f32(acc[i][first + v]);
      if constexpr (Z == zeros_integer) dot = fma(zero() - zero_of[v], over, dot);  // exact
      f32v part = fma(dot, scale[v], before(i, first + v));
      if constexpr (Z == zeros_offset) part = fma(zero_of[v], over, part);
      write(i, first + v, part);
    }
  }
}

template <int M, int V, class Before, class Write>
FASTSERVE_INLINE void fold(const i32v (&acc)[M][V], int first, const integer_panels& w, const char* scales,
                           const char* input, int sum, Before before, Write write) {
  if (w.zero == zeros_none) {
    fold_with<zeros_none>(acc, first, w, scales, input, sum, before, write);
  } else if (w.zero == zeros_integer) {
    fold_with<zeros_integer>(acc, first, w, scales, input, sum, before, write);
  } else {
    fold_with<zeros_offset>(acc, first, w, scales, input, sum, before, write);
  }
}

/// Columns: of a fold, or 0 for any. A fold of a whole record goes straight into the sum.
template <codes_as C, int M, bool Stream, int Columns>
__attribute__((noinline)) void multiply_integers(const integer_tile& tile) {
  constexpr bool OneFold = Columns == record_columns;
  constexpr bool Registers = parts_in_registers<Columns>;
  constexpr int P = Stream ? panels_at_once<Columns>(M) : panels_of_tile<Columns>;
  constexpr int V = P * tile_vectors;
  const integer_panels& w = *tile.weights;
  const int columns = Columns > 0 ? Columns : w.columns;
  const int steps = columns / step_columns;
  const int sums_at = first_sum(columns);
  const std::int32_t shift = -w.shift;
  const char* codes[P];
  FASTSERVE_UNROLL(4)
  for (int p = 0; p < P; ++p)
    codes[p] = tile.panel + (p < tile.panels ? p : 0) * w.panel_bytes + tile.fold_first * w.fold_bytes;
  const char* const end = codes[0] + (tile.fold_last - tile.fold_first) * w.fold_bytes;
  std::int64_t scales_at = w.scales_at + tile.fold_first * w.scales_step;
  const auto scales_of_panel = [&](int p) {
    return tile.panel + (p < tile.panels ? p : 0) * w.panel_bytes + scales_at;
  };
  const char* input = tile.input;
  const char* ahead = tile.ahead;
  const char* rows_ahead = tile.rows_ahead;
  if (!Stream && tile.finish) {
    // Where the sums will go: of many rows that is out of the caches by now.
    for (int i = 0; i < M; ++i) {
      for (int v = 0; v < V; ++v) prefetch_l1(tile.out + i * tile.out_stride + v * lanes);
    }
  }
  const auto sum_at = [&](int i, int v) { return tile.sums + (i * V + v) * lanes; };
  if (!tile.resume)
    for (int i = 0; i < M * V; ++i) store(tile.sums + i * lanes, zero());
  f32v part[M][V];
  alignas(64) float part_memory[OneFold || Registers ? lanes : M * V * lanes];
  float* parts = part_memory;
  __asm__ volatile("" : "+r"(parts) : : "memory");  // registers are for the dot products
  const auto part_at = [&](int i, int v) { return parts + (i * V + v) * lanes; };

  for (std::int64_t left = tile.fold_last - tile.fold_first; left > 0;) {
    const int most = record_columns / columns;
    const int folds = OneFold ? 1 : static_cast<int>(left < most ? left : most);
    if (!Stream && rows_ahead != nullptr) {
      for (std::int64_t b = 0; b < M * record_bytes; b += 64) prefetch_l2(rows_ahead + b);
      rows_ahead += tile.input_step;
    }
    // A fixed distance ahead of each stream; from the panels' ends on, in those that follow.
    std::int64_t distance = stream_ahead_bytes / P;
    if (P > 1 && codes[0] + distance >= end) distance += (P - 1) * w.panel_bytes;
    if constexpr (Registers) {
      FASTSERVE_UNROLL(16)
      for (int i = 0; i < M; ++i) {
        FASTSERVE_UNROLL(8)
        for (int v = 0; v < V; ++v) part[i][v] = zero();
      }
    }
    for (int f = 0; f < folds; ++f) {
      const char* row_codes = input + f * columns;
      const char* at[P];
      FASTSERVE_UNROLL(4)
      for (int p = 0; p < P; ++p) {
        at[p] = codes[p];
        codes[p] += w.fold_bytes;
      }
      i32v acc[M][V];
      FASTSERVE_UNROLL(16)
      for (int i = 0; i < M; ++i) {
        const i32v start = set1_i32(shift * record_at(input, i).sums[sums_at + f]);
        FASTSERVE_UNROLL(8)
        for (int v = 0; v < V; ++v) acc[i][v] = start;
      }
      constexpr bool in_short = short_sums && C != codes_as::bytes;
      constexpr int at_once = in_short ? 2 : 1;
      for (int step = 0; step < steps; step += at_once) {
        if constexpr (Stream) {
          if (tile.fetch_ahead) {
            FASTSERVE_UNROLL(4)
            for (int p = 0; p < P; ++p) {
              FASTSERVE_UNROLL(16)
              for (int b = 0; b < at_once * code_bytes<C>; b += 64) prefetch_l1(at[p] + distance + b);
            }
          }
        } else {
          const std::int64_t bytes = at_once * tile.ahead_step;
          for (int p = 0; p < P; ++p)
            for (std::int64_t b = 0; b < bytes; b += 64) prefetch_l2(ahead + p * tile.ahead_panel + b);
          ahead += bytes;
        }
        if constexpr (!in_short) {
          multiply_step<C, M, P>(acc, row_codes, at);
        } else if (Columns > 0 || steps > 1) {
          multiply_short<C, M, P, 2>(acc, row_codes, at);
        } else {
          multiply_short<C, M, P, 1>(acc, row_codes, at);
        }
        row_codes += at_once * step_columns;
        FASTSERVE_UNROLL(4)
        for (int p = 0; p < P; ++p) at[p] += at_once * code_bytes<C>;
      }
      FASTSERVE_UNROLL(4)
      for (int p = 0; p < P; ++p) {
        if constexpr (OneFold) {
          fold(
              acc, p * tile_vectors, w, scales_of_panel(p), input, sums_at, [](int, int) { return zero(); },
              [&](int i, int v, f32v part) {
                store(sum_at(i, v), fma(part, set1(record_at(input, i).scale), load(sum_at(i, v))));
              });
        } else if constexpr (Registers) {
          fold(
              acc, p * tile_vectors, w, scales_of_panel(p), input, sums_at + f,
              [&](int i, int v) { return part[i][v]; }, [&](int i, int v, f32v now) { part[i][v] = now; });
        } else {
          fold(
              acc, p * tile_vectors, w, scales_of_panel(p), input, sums_at + f,
              [&](int i, int v) { return f == 0 ? zero() : load(part_at(i, v)); },
              [&](int i, int v, f32v part) { store(part_at(i, v), part); });
        }
      }
      scales_at += w.scales_step;
    }
    if constexpr (!OneFold) {
      FASTSERVE_UNROLL(16)
      for (int i = 0; i < M; ++i) {
        const f32v row_scale = set1(record_at(input, i).scale);
        FASTSERVE_UNROLL(8)
        for (int v = 0; v < V; ++v)
          store(sum_at(i, v),
                fma(Registers ? part[i][v] : load(part_at(i, v)), row_scale, load(sum_at(i, v))));
      }
    }
    __asm__ volatile("" ::: "memory");  // the sums stay in memory
    input += tile.input_step;
    left -= folds;
  }
  if (!tile.finish) return;
  for (int v = 0; v < V; ++v) {
    int n = tile.columns - v * lanes;
    n = n < 0 ? 0 : n < lanes ? n : lanes;
    if (n == 0) return;
    const f32v bias = tile.bias == nullptr ? zero() : load_n(tile.bias + v * lanes, n);
    for (int i = 0; i < M; ++i) {
      float* to = tile.out + i * tile.out_stride + v * lanes;
      f32v y = load(sum_at(i, v));
      if (tile.bias != nullptr) y = y + bias;
      if (tile.accumulate) y = load_n(to, n) + y;
      store_n(to, y, n);
    }
  }
}

/// Several tiles have at least half of integer_tile_rows each, rounded down: rows are dealt to them evenly.
template <codes_as C, bool Stream, int Columns, int M = integer_tile_rows>
FASTSERVE_INLINE void multiply_integer_rows(int rows, const integer_tile& tile) {
  if (rows == M) return multiply_integers<C, M, Stream, Columns>(tile);
  if constexpr (M > (Stream ? 1 : integer_tile_rows / 2))
    multiply_integer_rows<C, Stream, Columns, M - 1>(rows, tile);
}

/// Panels that are multiplied at once, over folds [from, to) of the whole.
struct panel_block {
  std::int64_t panel;
  int panels;
  std::int64_t from, to;
  const char* ahead;       // what comes after, if it is to be fetched
  const char* rows_ahead;  // the records of all rows that come after, likewise
};

/// All tiles of the job by the block's panels. w: the first panel is at w.data, its fold `w_from` is fold
/// block.from.
template <codes_as C, int Columns>
void multiply_tiles(const integer_job& job, const panel_block& block, const integer_panels& w,
                    std::int64_t w_from, float* sums) {
  const integer_panels& whole = job.weights;
  const std::int64_t folds = block.to - block.from;
  const std::int64_t record = block.from * w.columns / record_columns;
  const std::int64_t left = job.columns - block.panel * panel_columns;
  const std::int64_t mine = static_cast<std::int64_t>(block.panels) * panel_columns;
  integer_tile tile{};
  tile.weights = &w;
  tile.input_step = job.input_step;
  tile.panel = w.data;
  tile.panels = block.panels;
  tile.fold_first = w_from;
  tile.fold_last = w_from + folds;
  tile.resume = block.from > 0;
  tile.finish = block.to == whole.folds;
  tile.out_stride = job.out_stride;
  tile.bias = job.bias == nullptr ? nullptr : job.bias + block.panel * panel_columns;
  tile.columns = static_cast<int>(left < mine ? left : mine);
  tile.accumulate = job.accumulate;
  tile.fetch_ahead = job.habits.fetch_ahead;
  // The tiles fetch in equal parts, of whole lines, what comes after.
  const std::int64_t steps = folds * (w.columns / step_columns);
  const std::int64_t bytes = folds * whole.fold_bytes;
  const std::int64_t parts = steps * (job.tile_last - job.tile_first);
  tile.ahead_panel = whole.panel_bytes;
  tile.ahead_step = block.ahead == nullptr ? 0 : (bytes / 64 + parts - 1) / parts * 64;
  for (std::int64_t t = job.tile_first; t < job.tile_last; ++t) {
    const std::int64_t row = tile_begin(job.rows, job.tiles, t);
    const int rows = static_cast<int>(tile_begin(job.rows, job.tiles, t + 1) - row);
    tile.input = job.input + record * job.input_step + row * record_bytes;
    tile.sums = sums;
    tile.out = job.out + row * job.out_stride + block.panel * panel_columns;
    if constexpr (C != codes_as::opened) {
      if (job.tiles == 1) {
        multiply_integer_rows<C, true, Columns>(rows, tile);
        return;
      }
    }
    const std::int64_t done = (t - job.tile_first) * steps * tile.ahead_step;
    tile.ahead = block.ahead == nullptr || done >= bytes ? nullptr : block.ahead + done;
    if (tile.ahead == nullptr) tile.ahead_step = 0;
    tile.rows_ahead = block.rows_ahead == nullptr ? nullptr : block.rows_ahead + row * record_bytes;
    multiply_integer_rows<C, false, Columns>(rows, tile);
    sums += rows * panels_of_tile<Columns> * panel_columns;
  }
}

template <codes_as C, int Columns>
void multiply_block(const integer_job& job, const panel_block& block, float* sums) {
  integer_panels w = job.weights;
  w.data += block.panel * w.panel_bytes;
  if constexpr (C == codes_as::nibbles) {
    if (job.habits.open_nibbles && job.tile_last - job.tile_first >= opened_tiles) {
      alignas(64) char room[panels_of_tile<Columns> * opened_panel_bytes];
      const integer_panels opened = opened_panels(w, room, block.to - block.from);
      for (int p = 0; p < block.panels; ++p)
        open_nibbles(room + p * opened.panel_bytes, opened, w.data + p * w.panel_bytes, w, block.from);
      return multiply_tiles<codes_as::opened, Columns>(job, block, opened, 0, sums);
    }
  }
  multiply_tiles<C, Columns>(job, block, w, block.from, sums);
}

/// Runs of panels that are multiplied at once.
template <class Work>
FASTSERVE_INLINE void for_panels(const integer_job& job, int at_once, Work work) {
  for (std::int64_t panel = job.panel_first; panel < job.panel_last; panel += at_once) {
    const std::int64_t left = job.panel_last - panel;
    work(panel, static_cast<int>(left < at_once ? left : at_once));
  }
}

template <codes_as C, int Columns>
void gemm_integers_of(const integer_job& job) {
  const integer_panels& w = job.weights;
  const std::int64_t job_rows =
      tile_begin(job.rows, job.tiles, job.tile_last) - tile_begin(job.rows, job.tiles, job.tile_first);
  const std::int64_t block = block_records * (record_columns / w.columns);
  const auto multiply = multiply_block<C, Columns>;
  if (job.tiles == 1) {
    // From end to end, as memory feeds them.
    return for_panels(job, panels_at_once<Columns>(static_cast<int>(job.rows)),
                      [&](std::int64_t panel, int panels) {
                        multiply(job, {panel, panels, 0, w.folds, nullptr, nullptr}, job.partials);
                      });
  }
  if (job.tiles <= integer_few_tiles) {
    // A block is used while it is in L1; meanwhile comes the one that follows, in the end of the next panels.
    return for_panels(job, panels_of_tile<Columns>, [&](std::int64_t panel, int panels) {
      for (std::int64_t from = 0; from < w.folds; from += block) {
        const std::int64_t to = w.folds - from < block ? w.folds : from + block;
        const char* ahead = w.data + panel * w.panel_bytes + to * w.fold_bytes;
        if (to == w.folds) ahead = w.data + (panel + panels) * w.panel_bytes;
        multiply(job, {panel, panels, from, to, ahead, nullptr}, job.partials);
      }
    });
  }
  for (std::int64_t from = 0; from < w.folds; from += block) {
    const std::int64_t to = w.folds - from < block ? w.folds : from + block;
    for_panels(job, panels_of_tile<Columns>, [&](std::int64_t panel, int panels) {
      const char* ahead = nullptr;
      const char* rows_ahead = nullptr;
      if (panel + panels < job.panel_last) {
        ahead = w.data + (panel + panels) * w.panel_bytes + from * w.fold_bytes;
      } else if (to < w.folds) {
        ahead = w.data + job.panel_first * w.panel_bytes + to * w.fold_bytes;
        rows_ahead = job.input + to * w.columns / record_columns * job.input_step;
      }
      float* sums = job.partials + (panel - job.panel_first) * job_rows * panel_columns;
      multiply(job, {panel, panels, from, to, ahead, rows_ahead}, sums);
    });
  }
}

template <codes_as C>
void gemm_integers_by(const integer_job& job) {
  if (job.weights.columns == record_columns) return gemm_integers_of<C, record_columns>(job);
  if (job.weights.columns == 32) return gemm_integers_of<C, 32>(job);
  gemm_integers_of<C, 0>(job);
}

void gemm_integers(const integer_job& job) {
  if (job.weights.bits == 8) return gemm_integers_by<codes_as::bytes>(job);
  gemm_integers_by<codes_as::nibbles>(job);
}

}  // namespace
}  // namespace fastserve::kernels::cpu::FASTSERVE_ISA
