#pragma once

#include "kernels/cuda/hopper/device.cuh"
#include "kernels/cuda/linear_units.cuh"

// What both products have in common: the ring of units that a thread fetches and warpgroups multiply, a
// warpgroup's sums over all of it, and their end.

namespace fastserve::kernels::cuda::hopper {

/// Slots of panels in shared memory, each with a barrier of its copies and one of the warps that leave it.
class unit_ring {
 public:
  static constexpr int most_slots = 16;

  /// `barriers`: 2 * most_slots of them.
  FASTSERVE_DEVICE unit_ring(std::uint64_t* barriers, int slots, int slot_bytes)
      : slots_{slots},
        slot_bytes_{slot_bytes},
        full_{shared_address(barriers)},
        empty_{full_ + 8 * most_slots},
        memory_{(shared_address(shared_memory()) + 1023) / 1024 * 1024} {}

  /// By the whole block. `warps`: that multiply.
  FASTSERVE_DEVICE void init(int warps) const {
    if (thread_index() == 0) {
      for (int s = 0; s < slots_; ++s) {
        init_barrier(full(s), 1);
        init_barrier(empty(s), warps);
      }
      publish_barriers();
    }
    sync_block();
  }

  FASTSERVE_DEVICE int slots() const { return slots_; }
  FASTSERVE_DEVICE std::uint32_t full(int slot) const { return full_ + 8 * slot; }
  FASTSERVE_DEVICE std::uint32_t empty(int slot) const { return empty_ + 8 * slot; }
  FASTSERVE_DEVICE std::uint32_t memory(int slot) const { return memory_ + slot * slot_bytes_; }
  /// This warp is done with a slot.
  FASTSERVE_DEVICE void leave(int slot) const {
    if (thread_index() % warp_lanes == 0) arrive(empty(slot));
  }

 private:
  int slots_, slot_bytes_;
  std::uint32_t full_, empty_, memory_;
};

/// whole = this warpgroup's 64 features by 2 Count rows, segment after segment. `features`, `rows`: where
/// their panels begin in a slot.
template <class T, int Count>
FASTSERVE_DEVICE void multiply_units(float (&whole)[Count], const unit_ring& ring, std::int64_t units,
                                     int features, int rows) {
  const std::int64_t length = segment_units(units);
  float sum[Count];
  ring_place at;
  for (std::int64_t first = 0; first < units; first += length) {
    const std::int64_t last = first + length < units ? first + length : units;
    int before = -1;  // the slot that may still be read
    for (std::int64_t u = first; u < last; ++u) {
      wait(ring.full(at.slot), at.phase);
      const auto a = panel_at(ring.memory(at.slot) + features);
      const auto b = panel_at(ring.memory(at.slot) + rows);
      begin_products();
#pragma unroll
      for (int step = 0; step < 4; ++step)
        multiply_panels<T>(sum, a + 2 * step, b + 2 * step, u > first || step > 0);
      commit_products();
      wait_products<1>();
      if (before >= 0) ring.leave(before);
      before = at.slot;
      at.next(ring.slots());
    }
    wait_products<0>();
    ring.leave(before);
#pragma unroll
    for (int i = 0; i < Count; ++i) whole[i] = first == 0 ? sum[i] : whole[i] + sum[i];
  }
}

/// The end of a warpgroup's elements: features of `panel`, rows from `row` on, of which those before
/// `own_row` are another block's.
template <class T, int Count>
FASTSERVE_DEVICE void finish_panel(const product& p, const float (&whole)[Count], std::int64_t panel,
                                   std::int64_t row, std::int64_t own_row) {
  const int lane = thread_index() % warp_lanes;
  const std::int64_t feature =
      panel * panel_rows + thread_index() % group_threads / warp_lanes * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const std::int64_t at = row + i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (at >= own_row) finish<float_form<T>>(p, whole[i], at, feature + i % 4 / 2 * 8);
  }
}

}  // namespace fastserve::kernels::cuda::hopper
