#include "kernels/cuda/hopper/stream.cuh"

// One row. A block holds it as a whole, so that nothing but weights goes through the ring. Where it is the
// norm of another row, every block computes that for itself while its weights are on their way: a kernel less
// to wait for.

namespace fastserve::kernels::cuda::hopper {
namespace {

constexpr int norm_threads = 256;  // that norm_rows() has, whose order this follows
constexpr int norm_step = 4 * norm_threads;
constexpr int shares = norm_threads / group_threads;  // of them, a thread's here
constexpr int norm_warps = norm_threads / warp_lanes;
constexpr int beyond_bytes = 112;  // read after the row, for columns that nobody wants

/// The row's norm as numbers in shared memory at `to`, zeros up to whole units. By the warpgroup. Fours: of
/// columns, that each of norm_rows()'s threads has.
template <class T, int Fours>
FASTSERVE_DEVICE void norm_row(const product& p, std::uint32_t to, float* room) {
  const auto cols = static_cast<int>(p.norm_columns);
  float4v gain[shares][Fours];
  float4v row[shares][Fours];
  const auto column = [](int share, int k) {
    return 4 * (thread_index() + share * group_threads) + k * norm_step;
  };
  const auto load = [&](float4v(&of)[shares][Fours], const float* from) {
#pragma unroll
    for (int s = 0; s < shares; ++s)
#pragma unroll
      for (int k = 0; k < Fours; ++k)
        if (column(s, k) < cols) of[s][k] = *reinterpret_cast<const float4v*>(from + column(s, k));
  };
  load(gain, p.gain);
  wait_for_previous();
  load(row, p.unnormed);
#pragma unroll
  for (int s = 0; s < shares; ++s) {
    float squares = 0;
#pragma unroll
    for (int k = 0; k < Fours; ++k)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (column(s, k) < cols) squares = fma(row[s][k].x[j], row[s][k].x[j], squares);
    squares = warp_sum(squares);
    if (thread_index() % warp_lanes == 0)
      room[s * (norm_warps / shares) + thread_index() / warp_lanes] = squares;
  }
  sync_group(1);
  float sum = room[0];
#pragma unroll
  for (int w = 1; w < norm_warps; ++w) sum += room[w];
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(cols) + p.epsilon);
#pragma unroll
  for (int s = 0; s < shares; ++s)
#pragma unroll
    for (int k = 0; k < Fours; ++k) {
      const int at = column(s, k);
      if (at >= p.units * unit_columns) continue;
      float x[4] = {0, 0, 0, 0};
      if (at < cols)
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = row[s][k].x[j] * factor * gain[s][k].x[j];
      store_shared(to + 2 * at, pack2<T>(x[0], x[1]), pack2<T>(x[2], x[3]));
    }
  show_to_matrix_unit();
  sync_group(1);
}

FASTSERVE_DEVICE void fetch_weights(const unit_ring& ring, const product& p, unit_run run, std::uint32_t row,
                                    std::uint32_t row_there) {
  const char* weights = p.weights + (block_x() * p.units + run.first) * panel_bytes;
  const auto count = static_cast<int>(run.last - run.first);
  const auto fetch = [&](int slot) {
    expect_bytes(ring.full(slot), panel_bytes);
    copy_bytes(ring.memory(slot), weights, panel_bytes, ring.full(slot));
    weights += panel_bytes;
  };
  const int ahead = count < ring.slots() ? count : ring.slots();
  for (int u = 0; u < ahead; ++u) fetch(u);
  wait_for_previous();
  // A block behind the last segment has nothing to do, and a copy of no bytes is none.
  if (p.unnormed == nullptr && count > 0) {
    const int bytes = count * unit_row_bytes;
    expect_bytes(row_there, bytes);
    copy_bytes(row + static_cast<int>(run.first) * unit_row_bytes, p.input + run.first * unit_row_bytes,
               bytes, row_there);
  }
  ring_place at;
  for (int u = ring.slots(); u < count; ++u) {
    wait(ring.empty(at.slot), at.phase);
    fetch(at.slot);
    at.next(ring.slots());
  }
}

template <class T, int Fours>
__global__ void __launch_bounds__(stream_threads) multiply_one_row(product p, stream_shape shape) {
  __shared__ std::uint64_t barriers[2 * unit_ring::most_slots];
  __shared__ std::uint64_t row_barrier;
  __shared__ float room[norm_warps];
  __shared__ bool last;
  const unit_ring ring{barriers, shape.slots, panel_bytes};
  const std::uint32_t row_there = shared_address(&row_barrier);
  const std::uint32_t row = ring.memory(shape.slots);
  if (thread_index() == 0) init_barrier(row_there, 1);
  ring.init(group_threads / warp_lanes);
  const auto run = run_of_block(p, shape.splits);
  if (thread_index() >= group_threads) {
    if (thread_index() == group_threads) fetch_weights(ring, p, run, row, row_there);
    return;
  }
  if constexpr (Fours > 0) {
    norm_row<T, Fours>(p, row, room);
  } else if (run.first < run.last) {
    wait(row_there, 0);
  }
  panel_sums<T, 4> sums{p, shape.splits};
  float sum[4];
  ring_place at;
  for (std::int64_t first = run.first; first < run.last; first += p.panel_segment_units) {
    const std::int64_t end =
        first + p.panel_segment_units < run.last ? first + p.panel_segment_units : run.last;
    auto next = row_at(row + static_cast<int>(first) * unit_row_bytes);
    multiply_segment<T>(sum, ring, at, end - first, 0, [&](std::uint32_t) {
      const auto unit = next;
      next += unit_row_bytes >> 4;
      return unit;
    });
    sums.close(sum);
  }
  sums.finish(&last);
}

template <class T>
void launch_of(const product& p, int multiprocessors, cudaStream_t on) {
  const std::int64_t panels = (p.features + panel_rows - 1) / panel_rows;
  const auto cut = cut_stream(p, multiprocessors);
  const int row_bytes = static_cast<int>(p.units) * unit_row_bytes + beyond_bytes;
  const int room = stream_ring_bytes / cut.resident - 2048 - row_bytes;
  const int slots = std::min(room / panel_bytes, unit_ring::most_slots);
  const launch_shape shape{
      panels, cut.splits, stream_threads, static_cast<std::size_t>(1024 + slots * panel_bytes + row_bytes),
      on,     true};
  const stream_shape of{slots, cut.splits};
  constexpr auto what = "product, one row";
  if (p.unnormed == nullptr) return launch(what, multiply_one_row<T, 0>, shape, p, of);
  if (p.norm_columns <= 4 * norm_step) return launch(what, multiply_one_row<T, 4>, shape, p, of);
  launch(what, multiply_one_row<T, 8>, shape, p, of);
}

}  // namespace

void launch_one_row(const product& p, int multiprocessors, cudaStream_t on) {
  return p.form == weight_form::f16 ? launch_of<f16>(p, multiprocessors, on)
                                    : launch_of<bf16>(p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
