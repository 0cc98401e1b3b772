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
/// weights and the same rows, so that the second cache has them: `together` blocks of rows take all the
/// features in turn, then the next ones.
struct tile_place {
  std::int64_t rows, features;  ///< counted in blocks
};
FASTSERVE_DEVICE tile_place place_of_tile(std::int64_t block, std::int64_t row_blocks,
                                          std::int64_t feature_blocks, int together = 16) {
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

/// A unit's rows as a panel of its slot, for multiply_segment.
struct rows_in_slot {
  int at;
  FASTSERVE_DEVICE std::uint64_t operator()(std::uint32_t slot) const { return panel_at(slot + at); }
};

/// The sums of one segment: this warpgroup's 64 features by 2 Count rows. `features`: where their panel
/// begins in a slot. rows(slot) names the next unit's rows. `at`: of the ring, whose next slots are the
/// segment's `units`.
template <class T, int Count, class Rows>
FASTSERVE_DEVICE void multiply_segment(float (&sum)[Count], const unit_ring& ring, ring_place& at,
                                       std::int64_t units, int features, Rows&& rows) {
  int before = -1;  // the slot that may still be read
  for (std::int64_t u = 0; u < units; ++u) {
    const std::uint32_t memory = uniform(ring.memory(at.slot));
    wait(ring.full(at.slot), at.phase);
    const auto a = panel_at(memory + features);
    const auto b = rows(memory);
    begin_products();
#pragma unroll
    for (int step = 0; step < 4; ++step)
      multiply_panels<T>(sum, a + 2 * step, b + 2 * step, u > 0 || step > 0);
    commit_products();
    wait_products<1>();
    if (before >= 0) ring.leave(before);
    before = at.slot;
    at.next(ring.slots());
  }
  wait_products<0>();
  ring.leave(before);
}

/// Sums of a run, which begins where a segment does. close(sum) takes each segment's in turn.
template <class T, int Count, class Rows, class Close>
FASTSERVE_DEVICE void multiply_units(const unit_ring& ring, std::int64_t length, unit_run run, int features,
                                     Rows&& rows, Close&& close) {
  float sum[Count];
  ring_place at;
  for (std::int64_t first = run.first; first < run.last; first += length) {
    const std::int64_t units = (first + length < run.last ? first + length : run.last) - first;
    multiply_segment<T>(sum, ring, at, units, features, rows);
    close(sum);
  }
}

/// Which rows a lane's sums belong to, of a warpgroup's 64 features by rows from `row` on: those before
/// `own_row` are another block's.
class lane_rows {
 public:
  FASTSERVE_DEVICE lane_rows(const product& p, std::int64_t row, std::int64_t own_row)
      : first{row + thread_index() % 4 * 2},
        from_{static_cast<int>(own_row - first)},
        to_{static_cast<int>(p.rows - first)} {}
  /// From the lane's first row to that of sum i.
  FASTSERVE_DEVICE static constexpr int offset(int i) { return i / 4 * 8 + i % 2; }
  FASTSERVE_DEVICE bool has(int i) const { return offset(i) >= from_ && offset(i) < to_; }

  const std::int64_t first;

 private:
  int from_, to_;
};

/// What is done to the sums of one feature.
template <class Form>
struct feature_end {
  float scale = 1.0F;
  float bias = 0.0F;
  bool has_bias;

  FASTSERVE_DEVICE feature_end(const product& p, std::int64_t feature) : has_bias{p.bias != nullptr} {
    if (feature >= p.features) return;
    if (Form::record_scales) scale = static_cast<const float*>(p.scales)[feature];
    if (has_bias) bias = p.bias[feature];
  }
  FASTSERVE_DEVICE float operator()(float sum) const {
    if (Form::record_scales) sum *= scale;
    return has_bias ? sum + bias : sum;
  }
};

/// Where what a gate lets through goes.
FASTSERVE_DEVICE std::int64_t active_column(std::int64_t feature) {
  return feature / (2 * gated_turn) * gated_turn + feature % gated_turn;
}
/// f(gate) * up of sums. `feature`: of the gate; that of up is the next turn's.
template <class Form>
FASTSERVE_DEVICE void store_gated(const product& p, float gate, float up, std::int64_t feature,
                                  std::int64_t row) {
  const feature_end<Form> ends[2] = {{p, feature}, {p, feature + gated_turn}};
  store_element(p.active, p.active_type, row * p.active_stride + active_column(feature),
                logistic_activated(ends[0](gate), p.f) * ends[1](up));
}
/// The same of all that a lane has, in one type and one function.
template <activation F, class Out, class Form, int Count>
FASTSERVE_DEVICE void store_gates(const product& p, const float (&whole)[Count], std::int64_t feature,
                                  const lane_rows& rows) {
  const feature_end<Form> gate{p, feature};
  const feature_end<Form> up{p, feature + gated_turn};
  auto* to = static_cast<Out*>(p.active) + rows.first * p.active_stride + active_column(feature);
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    if (i % 4 >= 2 || !rows.has(i)) continue;
    to[rows.offset(i) * p.active_stride] =
        rounded_to<Out>(logistic_activated(gate(whole[i]), F) * up(whole[i + 2]));
  }
}

/// The end of gates, beside whose registers are those of what they let through. `feature`: of this lane's
/// gate.
template <class Form, int Count>
FASTSERVE_DEVICE void finish_gated(const product& p, const float (&whole)[Count], std::int64_t feature,
                                   std::int64_t row, std::int64_t own_row) {
  if (feature >= p.features) return;
  const lane_rows rows{p, row, own_row};
  // Chosen once and not for every element.
  const auto store = [&]<class Out>(Out) {
    if (p.f == activation::silu) return store_gates<activation::silu, Out, Form>(p, whole, feature, rows);
    store_gates<activation::gelu_tanh, Out, Form>(p, whole, feature, rows);
  };
  if (p.active_type == dtype::bf16) return store(bf16{});
  if (p.active_type == dtype::f16) return store(f16{});
  store(float{});
}

/// The end of a warpgroup's elements: features of `panel`, rows from `row` on, of which those before
/// `own_row` are another block's. What is there is fetched for many before any is written, as finish() does.
template <class T, int Count>
FASTSERVE_DEVICE void finish_panel(const product& p, const float (&whole)[Count], std::int64_t panel,
                                   std::int64_t row, std::int64_t own_row) {
  const std::int64_t feature =
      panel * panel_rows + thread_index() % group_threads / warp_lanes * 16 + thread_index() % warp_lanes / 4;
  if (p.gated) return finish_gated<float_form<T>>(p, whole, feature, row, own_row);
  const lane_rows rows{p, row, own_row};
  const feature_end<float_form<T>> end[2] = {{p, feature}, {p, feature + 8}};
  const bool there[2] = {feature < p.features, feature + 8 < p.features};
  float* const out = p.out + rows.first * p.out_stride + feature;
  const auto at = [&](int i) { return out + rows.offset(i) * p.out_stride + i % 4 / 2 * 8; };
  constexpr int together = Count < 32 ? Count : 32;
  static_assert(Count % together == 0);
#pragma unroll
  for (int first = 0; first < Count; first += together) {
    float before[together];
    if (p.accumulate) {
#pragma unroll
      for (int i = 0; i < together; ++i)
        before[i] = there[i % 4 / 2] && rows.has(first + i) ? *at(first + i) : 0.0F;
    }
#pragma unroll
    for (int i = 0; i < together; ++i) {
      if (!there[i % 4 / 2] || !rows.has(first + i)) continue;
      const float sum = end[i % 4 / 2](whole[first + i]);
      *at(first + i) = p.accumulate ? before[i] + sum : sum;
    }
  }
}

}  // namespace fastserve::kernels::cuda::hopper
