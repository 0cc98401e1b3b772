#include <algorithm>

#include "kernels/cuda/hopper/device.cuh"
#include "kernels/cuda/hopper/tensor_map.hpp"
#include "kernels/cuda/linear_units.cuh"

// Few rows: weights are read once, at the memory's speed. A block of one warpgroup has a panel of 64 features
// and up to 128 rows; a warp beside it fetches unit after unit into a ring that takes all the shared memory
// there is, so that even 64 blocks keep the memory busy. Weights are on their way before the kernel that
// writes the input is done.

namespace fastserve::kernels::cuda::hopper {
namespace {

constexpr int most_slots = 16;
constexpr int stream_threads = group_threads + warp_lanes;
constexpr int ring_bytes = 222 * 1024;  // of a multiprocessor, for all blocks there

template <int Rows>
constexpr int slot_bytes = panel_bytes + Rows* panel_row_bytes;

template <class T, int Rows>
class stream_block {
 public:
  FASTSERVE_DEVICE stream_block(const product& p, const CUtensorMap& input, int slots,
                                std::uint64_t* barriers)
      : p_{p},
        input_{input},
        slots_{slots},
        full_{shared_address(barriers)},
        empty_{full_ + 8 * most_slots},
        memory_{(shared_address(shared_memory()) + 1023) / 1024 * 1024},
        panel_{block_x()} {}

  FASTSERVE_DEVICE void run() {
    if (thread_index() == 0) {
      for (int s = 0; s < slots_; ++s) {
        init_barrier(full_ + 8 * s, 1);
        init_barrier(empty_ + 8 * s, group_threads / warp_lanes);
      }
      publish_barriers();
    }
    sync_block();
    if (thread_index() < group_threads) return multiply();
    if (thread_index() == group_threads) fetch();
  }

 private:
  FASTSERVE_DEVICE void fetch_weights(int slot, std::int64_t u) {
    expect_bytes(full_ + 8 * slot, panel_bytes + static_cast<int>(p_.rows) * panel_row_bytes);
    copy_bytes(memory_ + slot * slot_bytes<Rows>, p_.weights + (panel_ * p_.units + u) * panel_bytes,
               panel_bytes, full_ + 8 * slot);
  }
  FASTSERVE_DEVICE void fetch_rows(int slot, std::int64_t u) {
    copy_box(memory_ + slot * slot_bytes<Rows> + panel_bytes, input_, static_cast<int>(u) * panel_columns, 0,
             full_ + 8 * slot);
  }

  FASTSERVE_DEVICE void fetch() {
    const std::int64_t ahead = p_.units < slots_ ? p_.units : slots_;
    for (int s = 0; s < ahead; ++s) fetch_weights(s, s);
    wait_for_previous();
    for (int s = 0; s < ahead; ++s) fetch_rows(s, s);
    ring_place at;
    for (std::int64_t u = slots_; u < p_.units; ++u) {
      wait(empty_ + 8 * at.slot, at.phase);
      fetch_weights(at.slot, u);
      fetch_rows(at.slot, u);
      at.next(slots_);
    }
  }

  /// This warp is done with a slot.
  FASTSERVE_DEVICE void leave(int slot) const {
    if (thread_index() % warp_lanes == 0) arrive(empty_ + 8 * slot);
  }

  FASTSERVE_DEVICE void multiply() {
    constexpr int count = Rows / 2;
    const std::int64_t length = segment_units(p_.units);
    float sum[count];
    float whole[count];
    ring_place at;
    for (std::int64_t first = 0; first < p_.units; first += length) {
      const std::int64_t last = first + length < p_.units ? first + length : p_.units;
      int before = -1;  // the slot that may still be read
      for (std::int64_t u = first; u < last; ++u) {
        wait(full_ + 8 * at.slot, at.phase);
        const std::uint32_t slot = memory_ + at.slot * slot_bytes<Rows>;
        const auto features = panel_at(slot);
        const auto rows = panel_at(slot + panel_bytes);
        begin_products();
#pragma unroll
        for (int step = 0; step < 4; ++step)
          multiply_panels<T>(sum, features + 2 * step, rows + 2 * step, u > first || step > 0);
        commit_products();
        wait_products<1>();
        if (before >= 0) leave(before);
        before = at.slot;
        at.next(slots_);
      }
      wait_products<0>();
      leave(before);
#pragma unroll
      for (int i = 0; i < count; ++i) whole[i] = first == 0 ? sum[i] : whole[i] + sum[i];
    }
    wait_for_previous();  // of the output: it may be the residual
    const int lane = thread_index() % warp_lanes;
    const std::int64_t feature = panel_ * panel_rows + thread_index() / warp_lanes * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < count; ++i)
      finish<float_form<T>>(p_, whole[i], i / 4 * 8 + lane % 4 * 2 + i % 2, feature + i % 4 / 2 * 8);
  }

  const product& p_;
  const CUtensorMap& input_;
  int slots_;
  std::uint32_t full_, empty_, memory_;
  std::int64_t panel_;
};

template <class T, int Rows>
__global__ void __launch_bounds__(stream_threads)
    stream_panels(const __grid_constant__ CUtensorMap input, product p, int slots) {
  __shared__ std::uint64_t barriers[2 * most_slots];
  stream_block<T, Rows> block{p, input, slots, barriers};
  block.run();
}

template <class T, int Rows>
void launch_rows(const product& p, int multiprocessors, cudaStream_t on) {
  const std::int64_t panels = (p.features + panel_rows - 1) / panel_rows;
  // All blocks at once where they fit, and evenly over the device.
  const std::int64_t there = std::clamp<std::int64_t>((panels + multiprocessors - 1) / multiprocessors, 1, 3);
  const int slots = std::min((ring_bytes / static_cast<int>(there) - 2048) / slot_bytes<Rows>, most_slots);
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
  launch_rows<T, 128>(p, multiprocessors, on);
}

}  // namespace

void launch_stream(const product& p, int multiprocessors, cudaStream_t on) {
  return p.form == weight_form::f16 ? launch_of<f16>(p, multiprocessors, on)
                                    : launch_of<bf16>(p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
