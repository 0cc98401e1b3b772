#include <algorithm>

#include "kernels/cuda/hopper/tensor_map.hpp"
#include "kernels/cuda/hopper/unit_ring.cuh"

// Few rows: weights are read once, at the memory's speed. A block of one warpgroup has a panel of 64 features
// and up to 128 rows; a warp beside it fetches unit after unit into a ring that takes all the shared memory
// there is, so that even 64 blocks keep the memory busy. Weights are on their way before the kernel that
// writes the input is done.

namespace fastserve::kernels::cuda::hopper {
namespace {

constexpr int stream_threads = group_threads + warp_lanes;
constexpr int ring_bytes = 222 * 1024;  // of a multiprocessor, for all blocks there

template <int Rows>
constexpr int slot_bytes = panel_bytes + Rows* panel_row_bytes;

/// One thread fetches. Rows that are not there are not fetched, as zeros are slow to come: what lies in their
/// place gives columns that nobody reads.
FASTSERVE_DEVICE void fetch_units(const unit_ring& ring, const product& p, const CUtensorMap& input) {
  const auto fetch_weights = [&](int slot, std::int64_t u) {
    expect_bytes(ring.full(slot), panel_bytes + static_cast<int>(p.rows) * panel_row_bytes);
    copy_bytes(ring.memory(slot), p.weights + (block_x() * p.units + u) * panel_bytes, panel_bytes,
               ring.full(slot));
  };
  const auto fetch_rows = [&](int slot, std::int64_t u) {
    copy_box(ring.memory(slot) + panel_bytes, input, static_cast<int>(u) * panel_columns, 0, ring.full(slot));
  };
  const std::int64_t ahead = p.units < ring.slots() ? p.units : ring.slots();
  for (int s = 0; s < ahead; ++s) fetch_weights(s, s);
  wait_for_previous();
  for (int s = 0; s < ahead; ++s) fetch_rows(s, s);
  ring_place at;
  for (std::int64_t u = ring.slots(); u < p.units; ++u) {
    wait(ring.empty(at.slot), at.phase);
    fetch_weights(at.slot, u);
    fetch_rows(at.slot, u);
    at.next(ring.slots());
  }
}

template <class T, int Rows>
__global__ void __launch_bounds__(stream_threads)
    stream_panels(const __grid_constant__ CUtensorMap input, product p, int slots) {
  __shared__ std::uint64_t barriers[2 * unit_ring::most_slots];
  const unit_ring ring{barriers, slots, slot_bytes<Rows>};
  ring.init(group_threads / warp_lanes);
  if (thread_index() >= group_threads) {
    if (thread_index() == group_threads) fetch_units(ring, p, input);
    return;
  }
  float whole[Rows / 2];
  multiply_units<T>(whole, ring, p.units, 0, panel_bytes);
  wait_for_previous();  // of the output: it may be the residual
  finish_panel<T>(p, whole, block_x(), 0, 0);
}

template <class T, int Rows>
void launch_rows(const product& p, int multiprocessors, cudaStream_t on) {
  const std::int64_t panels = (p.features + panel_rows - 1) / panel_rows;
  // All blocks at once where they fit, and evenly over the device.
  const std::int64_t there = std::clamp<std::int64_t>((panels + multiprocessors - 1) / multiprocessors, 1, 3);
  const int slots =
      std::min((ring_bytes / static_cast<int>(there) - 2048) / slot_bytes<Rows>, unit_ring::most_slots);
  launch("product, few rows", stream_panels<T, Rows>,
         {panels, 1, stream_threads, static_cast<std::size_t>(1024 + slots * slot_bytes<Rows>), on, true},
         map_rows(p, static_cast<int>(p.rows)), p, slots);
}

template <class T>
void launch_of(const product& p, int multiprocessors, cudaStream_t on) {
  if (p.rows <= 8) return launch_rows<T, 8>(p, multiprocessors, on);
  if (p.rows <= 16) return launch_rows<T, 16>(p, multiprocessors, on);
  if (p.rows <= 32) return launch_rows<T, 32>(p, multiprocessors, on);
  if (p.rows <= 64) return launch_rows<T, 64>(p, multiprocessors, on);
  launch_rows<T, few_rows>(p, multiprocessors, on);
}

}  // namespace

void launch_stream(const product& p, int multiprocessors, cudaStream_t on) {
  return p.form == weight_form::f16 ? launch_of<f16>(p, multiprocessors, on)
                                    : launch_of<bf16>(p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
