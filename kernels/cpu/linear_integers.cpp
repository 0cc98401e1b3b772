#include <algorithm>

#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/integer_weight.hpp"
#include "kernels/parts.hpp"

namespace fastserve::kernels::cpu {
namespace {

constexpr std::int64_t parallel_bytes = std::int64_t{128} << 10;  // as in linear.cpp
constexpr std::int64_t parallel_products = std::int64_t{2} << 20;
constexpr std::int64_t stream_bytes = std::int64_t{64} << 10;  // of one job of few rows

}  // namespace

void cpu_backend::linear_integers(tensor_view out, tensor_view in, const weight& by, tensor_view bias,
                                  bool accumulate) {
  const auto& w = static_cast<const integer_weight&>(by);
  assert(in.type == dtype::q8 || in.type == dtype::f32);
  const bool rounds = in.type != dtype::q8;
  const auto& shape = table_.integer_tiles;
  const std::int64_t tiles = parts(in.rows, shape.tile_rows);
  const std::int64_t tile_blocks = parts(tiles, shape.block_rows / shape.tile_rows);
  const std::int64_t records = parts(in.cols, record_columns);

  cuts_.clear();
  for (const auto& s : w.sections()) {
    std::int64_t longest = shape.block_panels;
    if (tiles <= shape.few_tiles) {
      longest = std::clamp<std::int64_t>(stream_bytes / s.panels.panel_bytes, shape.stream_panels,
                                         shape.block_panels);
      longest -= longest % shape.stream_panels;
    }
    // A single tile multiplies half of stream_panels at once; fewer than are multiplied at once take as long
    // as all of those.
    cuts_.push_back(
        {s.panel_count, longest, tiles > 1 ? shape.tile_panels : std::max(shape.stream_panels / 2, 1)});
  }

  tensor_view rounded = in;
  if (rounds) {
    rounded = {packed_rows_.at_least(bytes_of(dtype::q8, in.rows, in.cols)),
               dtype::q8,
               in.where,
               in.rows,
               in.cols,
               stride_of(dtype::q8, in.rows, in.cols)};
  }
  const std::int64_t step = rounded.stride * record_bytes;
  auto* partials = partials_.floats(static_cast<std::size_t>(shape.partial_floats * team_.size()));
  const bool worthwhile = static_cast<std::int64_t>(w.bytes()) >= parallel_bytes ||
                          in.rows * w.rows() * w.cols() >= parallel_products;
  deal_.begin(cuts_, tile_blocks, worthwhile ? team_.size() : 1);
  team_.run(worthwhile, [&](int thread, int threads) {
    if (rounds) {
      const share mine{in.rows * records, thread, threads};
      for (std::int64_t i = mine.first; i < mine.last; ++i) {
        const std::int64_t row = i / records;
        const std::int64_t from = i % records * record_columns;
        table_.quantize(static_cast<char*>(rounded.data) + row * record_bytes + i % records * step, step,
                        static_cast<const float*>(in.data) + row * in.stride + from,
                        std::min<std::int64_t>(record_columns, in.cols - from));
      }
      if (threads > 1) team_.barrier();
    }
    integer_job job;
    job.input = static_cast<const char*>(rounded.data);
    job.input_step = step;
    job.partials = partials + thread * shape.partial_floats;
    job.out_stride = out.stride;
    job.rows = in.rows;
    job.tiles = tiles;
    job.accumulate = accumulate;
    job.habits = habits_;
    while (const auto* part = deal_.take(thread)) {
      const auto& section = w.sections()[part->section];
      job.weights = section.panels;
      job.columns = section.rows;
      job.out = static_cast<float*>(out.data) + section.first_row;
      job.bias = bias.data == nullptr ? nullptr : static_cast<const float*>(bias.data) + section.first_row;
      job.tile_first = tile_begin(tiles, tile_blocks, part->tile_block);
      job.tile_last = tile_begin(tiles, tile_blocks, part->tile_block + 1);
      job.panel_first = part->panel_first;
      job.panel_last = part->panel_last;
      table_.gemm_integers(job);
    }
  });
}

}  // namespace fastserve::kernels::cpu
