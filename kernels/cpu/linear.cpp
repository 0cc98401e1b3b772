#include <algorithm>

#include "kernels/cpu/backend.hpp"
#include "kernels/parts.hpp"

namespace fastserve::kernels::cpu {
namespace {

constexpr std::int64_t parallel_bytes = std::int64_t{128}
                                        << 10;  // of weights: about the cost of waking a team
constexpr std::int64_t parallel_products = std::int64_t{1} << 20;
constexpr std::int64_t stream_bytes = std::int64_t{256} << 10;  // weights of one job of a single tile

/// How the panels of `w` may be cut, where `tiles` tiles pass over them.
section_cut cut(const packed_weight& w, std::int64_t tiles, const gemm_shape& shape, int threads) {
  if (tiles > 1) return {w.panels(), shape.block_panels, shape.tile_panels};
  std::int64_t run = shape.stream_panels;  // cut only if some thread would have none
  while (run > 1 && parts(w.panels(), run) < threads) run /= 2;
  const auto panel_bytes = std::max<std::int64_t>(static_cast<std::int64_t>(w.panel_bytes()), 1);
  return {w.panels(), std::max<std::int64_t>(stream_bytes / panel_bytes / run, 1) * run, run};
}

}  // namespace

void cpu_backend::linear(tensor_view out, tensor_view in, const weight& by, tensor_view bias, bool accumulate,
                         stream&) {
  assert(in.cols == by.cols());
  assert(out.type == dtype::f32 && out.rows == in.rows && out.cols == by.rows());
  assert(bias.data == nullptr || (bias.type == dtype::f32 && bias.rows * bias.cols == by.rows()));
  if (in.rows == 0) return;
  if (by.input_type() == dtype::q8) return linear_integers(out, in, by, bias, accumulate);
  assert(dynamic_cast<const packed_weight*>(&by) != nullptr);
  const auto& w = static_cast<const packed_weight&>(by);
  assert(in.type == w.input_type());

  const auto element_bytes = static_cast<std::int64_t>(size_of(in.type));
  const std::int64_t lines = parts(w.units(), line_units);
  const std::int64_t row_bytes = in.cols * element_bytes;
  const std::int64_t stride_bytes = in.stride * element_bytes;
  // One row, all of it whole units, is packed as it is.
  const bool in_place =
      in.rows == 1 && row_bytes % 4 == 0 && reinterpret_cast<std::uintptr_t>(in.data) % 4 == 0;
  float* packed = in_place ? static_cast<float*>(in.data)
                           : packed_rows_.floats(static_cast<std::size_t>(in.rows * lines * line_units));
  const auto& shape = table_.gemm_tiles;
  float* partials = partials_.floats(static_cast<std::size_t>(shape.partial_floats * team_.size()));
  const std::int64_t tiles = parts(in.rows, shape.tile_rows);
  const std::int64_t tile_blocks = parts(tiles, shape.block_rows / shape.tile_rows);
  const auto kernel = table_.gemm[static_cast<int>(w.type())];

  const auto bytes = static_cast<std::int64_t>(w.bytes());
  const bool worthwhile = bytes >= parallel_bytes || in.rows * w.rows() * w.cols() >= parallel_products;
  const int workers = worthwhile ? team_.size() : 1;
  cuts_.assign(1, cut(w, tiles, shape, workers));
  deal_.begin(cuts_, tile_blocks, workers);
  team_.run(worthwhile, [&](int thread, int threads) {
    if (!in_place) {
      pack_job pack{
          .stride_bytes = stride_bytes, .row_bytes = row_bytes, .total_rows = in.rows, .lines = lines};
      const auto pack_tile = [&](std::int64_t tile, std::int64_t line_first, std::int64_t line_last) {
        pack.row = tile_begin(in.rows, tiles, tile);
        pack.rows = static_cast<int>(tile_begin(in.rows, tiles, tile + 1) - pack.row);
        pack.line_first = line_first;
        pack.line_last = line_last;
        table_.pack_rows(packed, in.data, pack);
      };
      if (tiles == 1) {
        const share mine{lines, thread, threads};
        pack_tile(0, mine.first, mine.last);
      } else {
        const share mine{tiles, thread, threads};
        for (std::int64_t t = mine.first; t < mine.last; ++t) pack_tile(t, 0, lines);
      }
      if (threads > 1) team_.barrier();
    }
    gemm_job job;
    job.input = packed;
    job.weights = w.data();
    job.out = static_cast<float*>(out.data);
    job.bias = static_cast<const float*>(bias.data);
    job.partials = partials + thread * shape.partial_floats;
    job.out_stride = out.stride;
    job.rows = in.rows;
    job.tiles = tiles;
    job.columns = w.rows();
    job.units = w.units();
    job.accumulate = accumulate;
    job.habits = habits_;
    while (const auto* part = deal_.take(thread)) {
      job.tile_first = tile_begin(tiles, tile_blocks, part->tile_block);
      job.tile_last = tile_begin(tiles, tile_blocks, part->tile_block + 1);
      job.panel_first = part->panel_first;
      job.panel_last = part->panel_last;
      kernel(job);
    }
  });
}

}  // namespace fastserve::kernels::cpu
