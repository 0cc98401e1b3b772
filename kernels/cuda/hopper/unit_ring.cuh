#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/hopper/device.cuh"
#include "kernels/cuda/linear_units.cuh"

// What both products have in common: the ring of units that a thread fetches and warpgroups multiply, a
// warpgroup's sums over all of it, and their end.

namespace fastserve::kernels::cuda::hopper {

/// Slots of panels in shared memory, each with a barrier of its copies and one of the warps that leave it: of
/// all blocks of a cluster, whose copies go to several.
class unit_ring {
 public:
  static constexpr int most_slots = 16;

  /// `barriers`: 2 * most_slots of them. `blocks`: of the cluster, which leave slots together.
  FASTSERVE_DEVICE unit_ring(std::uint64_t* barriers, int slots, int slot_bytes, int blocks = 1)
      : blocks_{blocks},
        slots_{slots},
        slot_bytes_{slot_bytes},
        full_{shared_address(barriers)},
        empty_{full_ + 8 * most_slots},
        memory_{(shared_address(shared_memory()) + 1023) / 1024 * 1024} {
    // Or the compiler makes them anew in every turn of a loop.
    asm volatile("" : "+r"(full_), "+r"(empty_), "+r"(memory_));
  }

  /// By the whole block. `warps`: that multiply.
  FASTSERVE_DEVICE void init(int warps) const {
    if (thread_index() == 0) {
      for (int s = 0; s < slots_; ++s) {
        init_barrier(full(s), 1);
        init_barrier(empty(s), blocks_ * warps);
      }
      publish_barriers();
    }
    if (blocks_ == 1) return sync_block();
    arrive_at_cluster();
    wait_for_cluster();
  }

  FASTSERVE_DEVICE int slots() const { return slots_; }
  FASTSERVE_DEVICE int slot_bytes() const { return slot_bytes_; }
  FASTSERVE_DEVICE std::uint32_t full(int slot) const { return full_ + 8 * slot; }
  FASTSERVE_DEVICE std::uint32_t empty(int slot) const { return empty_ + 8 * slot; }
  FASTSERVE_DEVICE std::uint32_t memory(int slot) const { return memory_ + slot * slot_bytes_; }
  /// This warp is done with a slot.
  FASTSERVE_DEVICE void leave(int slot) const {
    const int lane = thread_index() % warp_lanes;
    if (lane >= blocks_) return;
    if (blocks_ == 1) return arrive(empty(slot));
    arrive_at(empty(slot), lane);
  }

 private:
  int blocks_, slots_, slot_bytes_;
  std::uint32_t full_, empty_, memory_;
};

/// Blocks along the rows, whole clusters of them; the last ones may have nothing that is their own.
constexpr std::int64_t row_blocks(std::int64_t rows, std::int64_t block_rows, std::int64_t cluster_blocks) {
  const std::int64_t cluster_rows = cluster_blocks * block_rows;
  return (rows + cluster_rows - 1) / cluster_rows * cluster_blocks;
}

/// Which rows and which features a block of many has. Blocks that run beside one another should want the same
/// weights and the same rows, so that the second cache has them: 16 blocks of rows take all the features in
/// turn, then the next 16.
struct tile_place {
  std::int64_t rows, features;  ///< counted in blocks
};
FASTSERVE_DEVICE tile_place place_of_tile(std::int64_t block, std::int64_t row_blocks,
                                          std::int64_t feature_blocks) {
  constexpr int together = 16;
  const auto n = static_cast<int>(block);
  const auto rows = static_cast<int>(row_blocks);
  const auto features = static_cast<int>(feature_blocks);
  const int first = n / (together * features) * together;
  const int beside = rows - first < together ? rows - first : together;
  const int left = n - first * features;
  return {first + left % beside, left / beside};
}

/// Units of k.
struct unit_run {
  std::int64_t first, last;  ///< the last is not in it
};

/// Sums of a run, which begins where a segment does: this warpgroup's 64 features by 2 Count rows. close(sum)
/// takes each segment's in turn. `features`, `rows`: where their panels begin in a slot.
template <class T, int Count, class Close>
FASTSERVE_DEVICE void multiply_units(const unit_ring& ring, std::int64_t length, unit_run run, int features,
                                     int rows, Close&& close) {
  float sum[Count];
  ring_place at;
  for (std::int64_t first = run.first; first < run.last; first += length) {
    const std::int64_t last = first + length < run.last ? first + length : run.last;
    int before = -1;  // the slot that may still be read
    for (std::int64_t u = first; u < last; ++u) {
      const std::uint32_t memory = uniform(ring.memory(at.slot));
      wait(ring.full(at.slot), at.phase);
      const auto a = panel_at(memory + features);
      const auto b = panel_at(memory + rows);
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
    close(sum);
  }
}

/// f(gate) * up of sums. `feature`: of the gate; that of up is the next turn's.
template <class Form>
FASTSERVE_DEVICE void store_gated(const product& p, float gate, float up, std::int64_t feature,
                                  std::int64_t row) {
  const auto ended = [&](float sum, std::int64_t of) {
    if (Form::record_scales) sum *= static_cast<const float*>(p.scales)[of];
    return p.bias == nullptr ? sum : sum + p.bias[of];
  };
  const std::int64_t to = feature / (2 * gated_turn) * gated_turn + feature % gated_turn;
  store_element(p.active, p.active_type, row * p.active_stride + to,
                logistic_activated(ended(gate, feature), p.f) * ended(up, feature + gated_turn));
}

/// The end of gates, beside whose registers are those of what they let through. `feature`: of this lane's
/// gate.
template <class Form, int Count>
FASTSERVE_DEVICE void finish_gated(const product& p, const float (&whole)[Count], std::int64_t feature,
                                   std::int64_t row, std::int64_t own_row) {
  if (feature >= p.features) return;
  const int t = thread_index() % 4;
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    if (i % 4 >= 2) continue;
    const std::int64_t at = row + i / 4 * 8 + 2 * t + i % 2;
    if (at >= own_row && at < p.rows) store_gated<Form>(p, whole[i], whole[i + 2], feature, at);
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
  if (p.gated) return finish_gated<float_form<T>>(p, whole, feature, row, own_row);
  finish<float_form<T>>(p, whole, [&](int i) {
    const std::int64_t at = row + i / 4 * 8 + lane % 4 * 2 + i % 2;
    return element_place{at >= own_row ? at : p.rows, feature + i % 4 / 2 * 8};
  });
}

}  // namespace fastserve::kernels::cuda::hopper
