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

  auto& grids = section_grids_;
  grids.clear();
  std::int64_t jobs = 0;
  for (const auto& s : w.sections()) {
    std::int64_t job_panels = shape.block_panels;
    if (tiles <= shape.few_tiles) {
      job_panels = std::clamp<std::int64_t>(stream_bytes / s.panels.panel_bytes, shape.stream_panels,
                                            shape.block_panels);
      job_panels -= job_panels % shape.stream_panels;
    }
    // Enough jobs that the threads end together; but a tile multiplies half of stream_panels at once, and
    // fewer take as long as all of those.
    while (job_panels > std::max(shape.stream_panels / 2, 1) &&
           tile_blocks * parts(s.panel_count, job_panels) < 8 * team_.size())
      job_panels /= 2;
    grids.push_back({job_panels, jobs, tile_blocks * parts(s.panel_count, job_panels)});
    jobs += grids.back().jobs;
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
  deal_.begin(jobs, worthwhile ? team_.size() : 1);
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
    for (std::int64_t j; (j = deal_.take(thread)) >= 0;) {
      std::size_t s = 0;
      while (j >= grids[s].first_job + grids[s].jobs) ++s;
      const auto& section = w.sections()[s];
      const std::int64_t local = j - grids[s].first_job;
      const std::int64_t block = local % tile_blocks;
      job.weights = section.panels;
      job.columns = section.rows;
      job.out = static_cast<float*>(out.data) + section.first_row;
      job.bias = bias.data == nullptr ? nullptr : static_cast<const float*>(bias.data) + section.first_row;
      job.tile_first = tile_begin(tiles, tile_blocks, block);
      job.tile_last = tile_begin(tiles, tile_blocks, block + 1);
      job.panel_first = local / tile_blocks * grids[s].job_panels;
      job.panel_last = std::min(job.panel_first + grids[s].job_panels, section.panel_count);
      table_.gemm_integers(job);
    }
  });
}

}  // namespace fastserve::kernels::cpu
