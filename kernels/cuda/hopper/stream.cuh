#pragma once

#include <algorithm>

#include "kernels/cuda/hopper/stream_cut.hpp"
#include "kernels/cuda/hopper/tensor_map.hpp"
#include "kernels/cuda/hopper/unit_ring.cuh"

// Few rows: weights are read once, at the memory's speed. A block of one warpgroup has a panel of 64 features
// and up to 128 rows; a warp beside it fetches slot after slot into a ring that takes all the shared memory
// there is. Weights are on their way before the kernel that writes the input is done.
//
// Where there are fewer panels than the device has multiprocessors, which have only so many bytes a second
// each, blocks share a panel: each has some of the segments of k, whose sums go through the second cache, and
// whichever block comes last adds them, in their order.

namespace fastserve::kernels::cuda::hopper {

inline constexpr int stream_threads = group_threads + warp_lanes;
inline constexpr int stream_ring_bytes = 222 * 1024;  // of a multiprocessor, for all blocks there

struct stream_shape {
  int slots;
  int splits;  ///< blocks of a panel: 1, 2 or 4
};

/// 16-bit numbers: a slot has a unit, weights before rows.
template <class T, int Rows>
struct number_slots {
  using type = T;
  static constexpr int units = 1;
  static constexpr int weights_at = 0;
  static constexpr int rows_at = panel_bytes;
  static constexpr int unit_rows_bytes = Rows * panel_row_bytes;
  FASTSERVE_DEVICE static int weight_bytes(const product&) { return panel_bytes; }
  static constexpr int slot_bytes(const product&) { return panel_bytes + unit_rows_bytes; }

  template <class Close>
  FASTSERVE_DEVICE static void multiply(const unit_ring& ring, const product& p, unit_run run,
                                        Close&& close) {
    multiply_units<T, Rows / 2>(ring, p.panel_segment_units, run, weights_at, rows_in_slot{rows_at}, close);
  }
};

/// The block's segments: none where there are not enough units.
FASTSERVE_DEVICE unit_run run_of_block(const product& p, int splits) {
  const std::int64_t length = p.panel_segment_units * (panel_segments / splits);
  const std::int64_t first = block_y() * length;
  if (first >= p.units) return {0, 0};
  return {first, first + length < p.units ? first + length : p.units};
}

/// One thread fetches. Rows that are not there are not fetched, as zeros are slow to come: what lies in their
/// place gives columns that nobody reads.
template <class Slots>
FASTSERVE_DEVICE void fetch_slots(const unit_ring& ring, const product& p, const CUtensorMap& input,
                                  unit_run run) {
  constexpr int units = Slots::units;
  const std::int64_t first = run.first / units;
  const std::int64_t count = (run.last + units - 1) / units - first;
  const std::int64_t row_slots = (p.units + units - 1) / units;
  const int weight_bytes = Slots::weight_bytes(p);
  const auto fetch_weights = [&](int slot, std::int64_t s) {
    expect_bytes(ring.full(slot), weight_bytes + units * static_cast<int>(p.rows) * panel_row_bytes);
    copy_bytes(ring.memory(slot) + Slots::weights_at,
               p.weights + (block_x() * row_slots + first + s) * weight_bytes, weight_bytes, ring.full(slot));
  };
  // A unit beyond the last column is zero.
  const auto fetch_rows = [&](int slot, std::int64_t s) {
#pragma unroll
    for (int h = 0; h < units; ++h)
      copy_box(ring.memory(slot) + Slots::rows_at + h * Slots::unit_rows_bytes, input,
               static_cast<int>((first + s) * units + h) * panel_columns, 0, ring.full(slot));
  };
  const std::int64_t ahead = count < ring.slots() ? count : ring.slots();
  for (int s = 0; s < ahead; ++s) fetch_weights(s, s);
  wait_for_previous();
  for (int s = 0; s < ahead; ++s) fetch_rows(s, s);
  ring_place at;
  for (std::int64_t s = ring.slots(); s < count; ++s) {
    wait(ring.empty(at.slot), at.phase);
    fetch_weights(at.slot, s);
    fetch_rows(at.slot, s);
    at.next(ring.slots());
  }
}

/// What becomes of the segments' sums of a panel.
template <class T, int Count>
class panel_sums {
 public:
  FASTSERVE_DEVICE panel_sums(const product& p, int splits) : p_{p}, splits_{splits} {
    segment_ = block_y() * (panel_segments / splits);
  }

  FASTSERVE_DEVICE void close(const float (&sum)[Count]) {
    if (splits_ == 1) {
#pragma unroll
      for (int i = 0; i < Count; ++i) whole_[i] = segment_ == 0 ? sum[i] : whole_[i] + sum[i];
    } else {
      wait_for_previous();  // it may have been reading sums of its own there
      float* to = sums_of(segment_);
#pragma unroll
      for (int i = 0; i < Count; ++i) to[i * group_threads] = sum[i];
    }
    ++segment_;
  }

  /// `last`: of the block's shared memory.
  FASTSERVE_DEVICE void finish(bool* last) {
    wait_for_previous();  // of the output: it may be the residual
    if (splits_ > 1) {
      if (!is_last(last)) return;
      const std::int64_t length = p_.panel_segment_units;
      const auto used = static_cast<int>((p_.units + length - 1) / length);
#pragma unroll
      for (int i = 0; i < Count; ++i) whole_[i] = load_from_others(sums_of(0) + i * group_threads);
      for (int s = 1; s < used; ++s)
#pragma unroll
        for (int i = 0; i < Count; ++i) whole_[i] += load_from_others(sums_of(s) + i * group_threads);
    }
    finish_panel<T>(p_, whole_, block_x(), 0, 0);
  }

 private:
  FASTSERVE_DEVICE float* sums_of(std::int64_t segment) const {
    return p_.partial_sums + (block_x() * panel_segments + segment) * Count * group_threads + thread_index();
  }
  /// Whether all other blocks of the panel have been here. Leaves the count as it was found, for the next
  /// product.
  FASTSERVE_DEVICE bool is_last(bool* last) const {
    fence_device();
    sync_group(1);
    if (thread_index() == 0) {
      const auto others = static_cast<std::uint32_t>(splits_ - 1);
      *last = add_global(p_.arrivals + block_x(), 1) == others;
      if (*last) p_.arrivals[block_x()] = 0;
    }
    sync_group(1);
    fence_device();
    return *last;
  }

  const product& p_;
  int splits_;
  std::int64_t segment_;
  float whole_[Count];
};

template <class Slots, int Rows>
__global__ void __launch_bounds__(stream_threads)
    stream_panels(const __grid_constant__ CUtensorMap input, product p, stream_shape shape) {
  __shared__ std::uint64_t barriers[2 * unit_ring::most_slots];
  __shared__ bool last;
  const unit_ring ring{barriers, shape.slots, Slots::slot_bytes(p)};
  ring.init(group_threads / warp_lanes);
  const auto run = run_of_block(p, shape.splits);
  if (thread_index() >= group_threads) {
    if (thread_index() == group_threads) fetch_slots<Slots>(ring, p, input, run);
    return;
  }
  panel_sums<typename Slots::type, Rows / 2> sums{p, shape.splits};
  Slots::multiply(ring, p, run, [&](const float(&sum)[Rows / 2]) { sums.close(sum); });
  sums.finish(&last);
}

template <class Slots, int Rows>
void launch_stream_rows(const char* what, const product& p, int multiprocessors, cudaStream_t on) {
  const std::int64_t panels = (p.features + panel_rows - 1) / panel_rows;
  const auto cut = cut_stream(p, multiprocessors);
  const int slot_bytes = Slots::slot_bytes(p);
  const int slots = std::min((stream_ring_bytes / cut.resident - 2048) / slot_bytes, unit_ring::most_slots);
  launch(what, stream_panels<Slots, Rows>,
         {panels, cut.splits, stream_threads, static_cast<std::size_t>(1024 + slots * slot_bytes), on, true},
         map_rows(p, static_cast<int>(p.rows)), p, stream_shape{slots, cut.splits});
}

/// By the rows that a block has room for.
template <template <class, int> class Slots, class T>
void launch_stream_of(const char* what, const product& p, int multiprocessors, cudaStream_t on) {
  const auto rows = [&]<int Rows>() {
    launch_stream_rows<Slots<T, Rows>, Rows>(what, p, multiprocessors, on);
  };
  if (p.rows <= 8) return rows.template operator()<8>();
  if (p.rows <= 16) return rows.template operator()<16>();
  if (p.rows <= 32) return rows.template operator()<32>();
  if (p.rows <= 64) return rows.template operator()<64>();
  rows.template operator()<few_rows>();
}

}  // namespace fastserve::kernels::cuda::hopper
