#pragma once

#include <algorithm>

#include "kernels/cuda/hopper/tensor_map.hpp"
#include "kernels/cuda/hopper/unit_ring.cuh"

// Weights of 8 bits by rows rounded to 8 bits, integers both (w8a8.cu) or e4m3 both (fp8.cu). A unit is a
// record of the rows, whose scale belongs to it: the matrix unit adds up its products from zero, and each
// thread folds them into the float sums of its elements while the matrix unit has the next unit, or another
// warpgroup's. Where either operand may be the first, the weights are up to 32 rows, and a block has one
// panel of them; of more rows the rows are, as then a thread has elements of two rows and two scales a unit.

namespace fastserve::kernels::cuda::hopper {
namespace {

/// A unit's products add up exactly, in any order.
struct int8_codes {
  using dot = std::int32_t;
  /// Whether a product has the same bits whichever operand is the first.
  static constexpr bool either_first = true;
  template <int Count>
  static FASTSERVE_DEVICE void multiply(dot (&d)[Count], std::uint64_t a, std::uint64_t b, bool keep) {
    multiply_panels(d, a, b, keep);
  }
};

/// The matrix unit adds e4m3 with fewer bits of fraction than a float has, which a unit's 128 products hardly
/// notice; their sums are added as floats.
struct e4m3_codes {
  using dot = float;
  /// The same products of the same k, but no manual promises the same bits: tests/cuda compares them. False
  /// has the rows be first always.
  static constexpr bool either_first = true;
  template <int Count>
  static FASTSERVE_DEVICE void multiply(dot (&d)[Count], std::uint64_t a, std::uint64_t b, bool keep) {
    multiply_panels<e4m3>(d, a, b, keep);
  }
};

constexpr int ring_bytes = 222 * 1024;  // of a multiprocessor, for all blocks there
constexpr int scale_bytes = 16;         // of a record, the scale its last 4

/// A block: `Groups` warpgroups share `Rows` rows by `Panels` of weights. `Blocks`, one beside the other
/// along the rows, are a cluster: each fetches a part of the weights, for all.
template <class Codes, int Groups, int Rows, int Panels, int Blocks = 1>
struct record_shape {
  using codes = Codes;
  using dot = typename Codes::dot;
  static constexpr int groups = Groups;
  static constexpr int rows = Rows;
  static constexpr int panels = Panels;
  static constexpr int blocks = Blocks;
  static_assert(Blocks <= 2);
  static constexpr bool rows_first = Rows >= panel_rows;
  static_assert(rows_first ? Rows == Groups * panel_rows : Groups == 1 && Panels == 1);
  static constexpr int elements = (rows_first ? Panels * panel_rows : Rows) / 2;  // of a thread
  static constexpr int scales = rows_first ? 2 : elements / 2;                    // of a thread's elements
  /// Whether registers are for products of one unit only: then two warpgroups take turns.
  static constexpr bool turns = Panels > 1;
  static_assert(!turns || Groups == 2);
  static constexpr int threads = Groups * group_threads + (turns ? group_threads : warp_lanes);
  static constexpr int rows_at = Panels * panel_bytes;  // in a slot
  static constexpr int scales_at = rows_at + Rows * panel_row_bytes;
  static constexpr int slot_bytes = (scales_at + Rows * scale_bytes + 1023) / 1024 * 1024;
  static constexpr int share_bytes = panel_bytes / Blocks;                // of a panel, a block's to fetch
  static constexpr int most_blocks = Rows < 64 ? 3 : Rows == 64 ? 2 : 1;  // of a multiprocessor: registers
};

/// A warpgroup's elements, unit after unit.
template <class Shape>
class record_sums {
 public:
  static constexpr int count = Shape::elements;
  using dot = typename Shape::dot;

  FASTSERVE_DEVICE record_sums(const unit_ring& ring, int group, std::int64_t units)
      : ring_{ring}, group_{group}, units_{units}, length_{segment_units(units)}, left_{length_} {
#pragma unroll
    for (int i = 0; i < count; ++i) whole_[i] = sum_[i] = 0.0F;
  }

  /// Products of the next unit while those of one are folded.
  FASTSERVE_DEVICE void run() {
    dot dots[2][count];
    float scales[2][Shape::scales];
    begin(dots[0], scales[0]);
    std::int64_t u = 0;
    for (; u + 2 < units_; u += 2) {
      begin(dots[1], scales[1]);
      wait_products<1>();
      end(dots[0], scales[0]);
      begin(dots[0], scales[0]);
      wait_products<1>();
      end(dots[1], scales[1]);
    }
    if (u + 1 < units_) {
      begin(dots[1], scales[1]);
      wait_products<1>();
      end(dots[0], scales[0]);
      wait_products<0>();
      end(dots[1], scales[1]);
    } else {
      wait_products<0>();
      end(dots[0], scales[0]);
    }
    if (left_ < length_) add_segment();
  }

  /// Products of a unit while the other warpgroup folds: the turn is given away when half are done, so that
  /// the matrix unit always has some.
  FASTSERVE_DEVICE void run_in_turns() {
    dot dots[count];
    float scales[Shape::scales];
    if (group_ == 1) pass_turn(1);
    for (std::int64_t u = 0; u < units_; ++u) {
      wait_for_turn(1 + group_);
      begin(dots, scales);
      wait_products<1>();
      if (group_ == 0 || u + 1 < units_) pass_turn(2 - group_);
      wait_products<0>();
      end(dots, scales);
    }
    if (left_ < length_) add_segment();
  }

  /// The end of all elements, as finish() has it: features of `panel` on, rows from `row` on, of which those
  /// before `own_row` are another block's. What is read is read for many elements at once.
  FASTSERVE_DEVICE void finish_all(const product& p, std::int64_t panel, std::int64_t row,
                                   std::int64_t own_row) const {
    const int lane = thread_index() % warp_lanes;
    const int first = thread_index() % group_threads / warp_lanes * 16 + lane / 4;
    const int second = lane % 4 * 2;
    const std::int64_t first_row = row + (Shape::rows_first ? group_ * panel_rows + first : second);
    const std::int64_t first_feature = panel * panel_rows + (Shape::rows_first ? second : first);
    if (p.gated) {
      if constexpr (Shape::rows_first) return finish_gates(p, first_row, first_feature, own_row);
      return finish_gated<w8a8_form>(p, whole_, first_feature, row, own_row);
    }
    const auto rows_to = static_cast<int>(p.rows - first_row);
    const auto rows_from = static_cast<int>(own_row - first_row);
    const auto features = static_cast<int>(p.features - first_feature);
    const auto* scales = static_cast<const float*>(p.scales) + first_feature;
    const float* bias = p.bias == nullptr ? nullptr : p.bias + first_feature;
    float* out = p.out + first_row * p.out_stride + first_feature;
    const auto is_there = [&](int i) {
      return feature_of(i) < features && row_of(i) >= rows_from && row_of(i) < rows_to;
    };
    // Of a batch, which features are numbered from its first one.
    constexpr int batch = count < 32 ? count : 32;
    const auto number_of = [](int i) { return Shape::rows_first ? i / 4 * 2 + i % 2 : i % 4 / 2; };
    constexpr int batch_features = Shape::rows_first ? batch / 2 : 2;
#pragma unroll
    for (int from = 0; from < count; from += batch) {
      float scale[batch_features];
      float added[batch_features];
      float before[batch];
#pragma unroll
      for (int i = 0; i < batch; ++i) {
        const int f = feature_of(from + i);
        if (row_of(i) == 0) {
          scale[number_of(i)] = f < features ? scales[f] : 0.0F;
          added[number_of(i)] = f < features && bias != nullptr ? bias[f] : 0.0F;
        }
        before[i] = p.accumulate && is_there(from + i) ? out[row_of(from + i) * p.out_stride + f] : 0.0F;
      }
#pragma unroll
      for (int i = 0; i < batch; ++i) {
        if (!is_there(from + i)) continue;
        float sum = whole_[from + i] * scale[number_of(i)];
        if (bias != nullptr) sum += added[number_of(i)];
        out[row_of(from + i) * p.out_stride + feature_of(from + i)] = p.accumulate ? before[i] + sum : sum;
      }
    }
  }

 private:
  /// As finish_gated() where rows are first: gates and what they let through are every other eight features.
  FASTSERVE_DEVICE void finish_gates(const product& p, std::int64_t first_row, std::int64_t first_feature,
                                     std::int64_t own_row) const {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (i / 4 % 2 == 1) continue;
      const std::int64_t row = first_row + row_of(i);
      const std::int64_t feature = first_feature + feature_of(i);
      if (row < own_row || row >= p.rows || feature >= p.features) continue;
      store_gated<w8a8_form>(p, whole_[i], whole_[i + 4], feature, row);
    }
  }

  /// Element `i` of a thread, from its first one on.
  static constexpr int row_of(int i) { return Shape::rows_first ? i % 4 / 2 * 8 : i / 4 * 8 + i % 2; }
  static constexpr int feature_of(int i) { return Shape::rows_first ? i / 4 * 8 + i % 2 : i % 4 / 2 * 8; }

  /// The next unit's products: one group of them, or two of half the columns each if warpgroups take turns.
  FASTSERVE_DEVICE void begin(dot (&dots)[count], float (&scales)[Shape::scales]) {
    const std::uint32_t slot = ring_.memory(next_.slot);
    wait(ring_.full(next_.slot), next_.phase);
    const int lane = thread_index() % warp_lanes;
    const int first = group_ * panel_rows + thread_index() % group_threads / warp_lanes * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < Shape::scales; ++i) {
      const int row = Shape::rows_first ? first + 8 * i : i / 2 * 8 + lane % 4 * 2 + i % 2;
      scales[i] = float_of(load_shared_word(slot + Shape::scales_at + row * scale_bytes + scale_bytes - 4));
    }
    const auto weights = panel_at(slot);
    const auto rows = panel_at(slot + Shape::rows_at + group_ * panel_bytes);
    const auto a = Shape::rows_first ? rows : weights;
    const auto b = Shape::rows_first ? weights : rows;
    begin_products();
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      Shape::codes::multiply(dots, a + 2 * step, b + 2 * step, step > 0);
      if (Shape::turns && step == 1) commit_products();
    }
    commit_products();
    next_.next(ring_.slots());
  }

  FASTSERVE_DEVICE void end(const dot (&dots)[count], const float (&scales)[Shape::scales]) {
    sync_warp();  // all its lanes have their scales
    ring_.leave(done_.slot);
    done_.next(ring_.slots());
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const float scale = scales[Shape::rows_first ? i % 4 / 2 : i / 4 * 2 + i % 2];
      sum_[i] = fma(scale, static_cast<float>(dots[i]), sum_[i]);
    }
    if (--left_ == 0) add_segment();
  }

  /// Adding the first one to zero is as good as taking it: a sum that begins at zero never is -0.
  FASTSERVE_DEVICE void add_segment() {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      whole_[i] += sum_[i];
      sum_[i] = 0.0F;
    }
    left_ = length_;
  }

  const unit_ring& ring_;
  int group_;
  std::int64_t units_, length_, left_;
  ring_place next_, done_;
  float sum_[count];
  float whole_[count];
};

/// One thread fetches. Rows that are not there are not fetched: what lies in their place gives elements that
/// nobody reads. Weights are on their way before the kernel that writes the rows is done.
template <class Shape>
FASTSERVE_DEVICE void fetch_units(const unit_ring& ring, const product& p, const CUtensorMap& codes,
                                  const CUtensorMap& scales, std::int64_t panel, std::int64_t row) {
  const std::int64_t panels = (p.features + panel_rows - 1) / panel_rows;
  const int rows = p.rows < Shape::rows ? static_cast<int>(p.rows) : Shape::rows;
  const int share_at = Shape::blocks == 1 ? 0 : block_in_cluster() * Shape::share_bytes;
  const auto fetch_weights = [&](int slot, std::int64_t u) {
    expect_bytes(ring.full(slot), Shape::rows_at + rows * (panel_row_bytes + scale_bytes));
#pragma unroll
    for (int i = 0; i < Shape::panels; ++i) {
      const std::int64_t of = panel + i < panels ? panel + i : panels - 1;
      const char* from = p.weights + (of * p.units + u) * panel_bytes + share_at;
      const std::uint32_t to = ring.memory(slot) + i * panel_bytes + share_at;
      if constexpr (Shape::blocks == 1) {
        copy_bytes(to, from, panel_bytes, ring.full(slot));
      } else {
        copy_bytes_to_both(to, from, Shape::share_bytes, ring.full(slot));
      }
    }
  };
  const auto fetch_rows = [&](int slot, std::int64_t u) {
    const auto y = static_cast<int>(row);
    const auto z = static_cast<int>(u);
    copy_box(ring.memory(slot) + Shape::rows_at, codes, 0, y, z, ring.full(slot));
    copy_box(ring.memory(slot) + Shape::scales_at, scales, 0, y, z, ring.full(slot));
  };
  const std::int64_t ahead = p.units < ring.slots() ? p.units : ring.slots();
  for (int s = 0; s < ahead; ++s) fetch_weights(s, s);
  wait_for_previous();
  for (int s = 0; s < ahead; ++s) fetch_rows(s, s);
  ring_place at;
#pragma unroll 1  // for want of registers
  for (std::int64_t u = ring.slots(); u < p.units; ++u) {
    wait(ring.empty(at.slot), at.phase);
    fetch_weights(at.slot, u);
    fetch_rows(at.slot, u);
    at.next(ring.slots());
  }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    multiply_records(const __grid_constant__ CUtensorMap codes, const __grid_constant__ CUtensorMap scales,
                     product p, int slots) {
  __shared__ std::uint64_t barriers[2 * unit_ring::most_slots];
  const unit_ring ring{barriers, slots, Shape::slot_bytes, Shape::blocks};
  // The last block begins early, so that all its rows are there, if there are as many.
  constexpr std::int64_t features = Shape::panels * panel_rows;
  const auto place = place_of_tile(block_x(), row_blocks(p.rows, Shape::rows, Shape::blocks),
                                   (p.features + features - 1) / features);
  const std::int64_t own_row = place.rows * Shape::rows;
  const std::int64_t last = p.rows < Shape::rows ? 0 : p.rows - Shape::rows;
  const std::int64_t row = own_row < last ? own_row : last;
  const std::int64_t panel = place.features * Shape::panels;
  ring.init(Shape::groups * group_threads / warp_lanes);
  const int group = thread_index() / group_threads;
  if (group == Shape::groups) {
    if constexpr (Shape::turns) leave_registers<40>();
    if (thread_index() == Shape::groups * group_threads)
      fetch_units<Shape>(ring, p, codes, scales, panel, row);
    if constexpr (Shape::blocks == 1) return;
    sync_warp();
    arrive_at_cluster();
  } else {
    if constexpr (Shape::turns) take_registers<232>();
    record_sums<Shape> sums{ring, group, p.units};
    if constexpr (Shape::turns) {
      sums.run_in_turns();
    } else {
      sums.run();
    }
    if constexpr (Shape::blocks > 1) arrive_at_cluster();
    wait_for_previous();  // of the output: it may be the residual
    sums.finish_all(p, panel, row, own_row);
  }
  // The other block may still be leaving this one's slots.
  if constexpr (Shape::blocks > 1) {
    sync_warp();
    wait_for_cluster();
  }
}

template <class Shape>
void launch_shape_of(const product& p, int multiprocessors, cudaStream_t on) {
  constexpr std::int64_t features = Shape::panels * panel_rows;
  const std::int64_t x = row_blocks(p.rows, Shape::rows, Shape::blocks);
  const std::int64_t y = (p.features + features - 1) / features;
  // All blocks at once where they fit, and evenly over the device.
  const std::int64_t there =
      std::clamp<std::int64_t>((x * y + multiprocessors - 1) / multiprocessors, 1, Shape::most_blocks);
  const int slots =
      std::min((ring_bytes / static_cast<int>(there) - 2048) / Shape::slot_bytes, unit_ring::most_slots);
  const auto maps = map_records(p, static_cast<int>(std::min<std::int64_t>(p.rows, Shape::rows)));
  launch("product of records", multiply_records<Shape>,
         {x * y, 1, Shape::threads, static_cast<std::size_t>(1024 + slots * Shape::slot_bytes), on, true,
          Shape::blocks},
         maps.codes, maps.scales, p, slots);
}

/// Rounds of blocks over the device, times the bytes that a block fetches of a unit.
template <class Shape>
std::int64_t cost_of(const product& p, int multiprocessors) {
  constexpr std::int64_t features = Shape::panels * panel_rows;
  const std::int64_t blocks =
      (p.features + features - 1) / features * row_blocks(p.rows, Shape::rows, Shape::blocks);
  constexpr int bytes = Shape::slot_bytes - Shape::panels * (panel_bytes - Shape::share_bytes);
  return (blocks + multiprocessors - 1) / multiprocessors * bytes;
}

template <class Wide, class Narrow>
void launch_best_of(const product& p, int multiprocessors, cudaStream_t on) {
  if (cost_of<Wide>(p, multiprocessors) <= cost_of<Narrow>(p, multiprocessors))
    return launch_shape_of<Wide>(p, multiprocessors, on);
  launch_shape_of<Narrow>(p, multiprocessors, on);
}

template <class Codes>
void launch_records(const product& p, int multiprocessors, cudaStream_t on) {
  if constexpr (Codes::either_first) {
    if (p.rows <= 8) return launch_shape_of<record_shape<Codes, 1, 8, 1>>(p, multiprocessors, on);
    if (p.rows <= 16) return launch_shape_of<record_shape<Codes, 1, 16, 1>>(p, multiprocessors, on);
    if (p.rows <= 32) return launch_shape_of<record_shape<Codes, 1, 32, 1>>(p, multiprocessors, on);
  }
  if (p.rows <= 64) return launch_shape_of<record_shape<Codes, 1, 64, 1>>(p, multiprocessors, on);
  if (p.rows <= 128)
    return launch_best_of<record_shape<Codes, 2, 128, 2>, record_shape<Codes, 2, 128, 1>>(p, multiprocessors,
                                                                                          on);
  launch_best_of<record_shape<Codes, 2, 128, 2, 2>, record_shape<Codes, 2, 128, 1, 2>>(p, multiprocessors,
                                                                                       on);
}

}  // namespace
}  // namespace fastserve::kernels::cuda::hopper
