#include "kernels/cuda/hopper/codes.cuh"
#include "kernels/cuda/hopper/stream.cuh"

// Few rows by grouped integers: a slot has a record of codes, which warps open into their registers, the
// first operand of the matrix unit. While it multiplies one unit they open the next.

namespace fastserve::kernels::cuda::hopper {
namespace {

/// Rows before codes, whose size is known late.
template <class Form, int Rows>
struct code_slots {
  using type = bf16;
  static constexpr int units = code_record::units;
  static constexpr int rows_at = 0;
  static constexpr int unit_rows_bytes = Rows * panel_row_bytes;
  static constexpr int weights_at = units * unit_rows_bytes;
  FASTSERVE_DEVICE static int weight_bytes(const product& p) { return p.record.bytes; }
  __host__ __device__ static int slot_bytes(const product& p) {
    return (weights_at + p.record.bytes + 1023) / 1024 * 1024;
  }

  template <class Close>
  FASTSERVE_DEVICE static void multiply(const unit_ring& ring, const product& p, unit_run run,
                                        Close&& close) {
    const int tile = thread_index() / warp_lanes;
    const std::int64_t length = p.panel_segment_units;
    float sum[Rows / 2];
    std::uint32_t a[units][4][4];
    ring_place at;
    for (std::int64_t first = run.first; first < run.last; first += length) {
      const std::int64_t last = first + length < run.last ? first + length : run.last;
      int before = -1;  // the slot that may still be read
      for (std::int64_t u = first; u < last; u += units) {
        const std::uint32_t memory = uniform(ring.memory(at.slot));
        wait(ring.full(at.slot), at.phase);
        group_numbers by;
#pragma unroll
        for (int h = 0; h < units; ++h) {
          open_unit<Form>(
              a[h], by, p, tile, h, [&](int offset) { return load_shared(memory + weights_at + offset); },
              [&](int offset) { return load_shared_word(memory + weights_at + offset); });
          const auto b = panel_at(memory + rows_at + h * unit_rows_bytes);
#pragma unroll
          for (int step = 0; step < 4; ++step) settle(a[h][step]);
          begin_products();
#pragma unroll
          for (int step = 0; step < 4; ++step)
            multiply_registers<bf16>(sum, a[h][step], b + 2 * step, u > first || h + step > 0);
          commit_products();
          wait_products<1>();  // the last unit's operands may go
          if (h == 0 && before >= 0) ring.leave(before);
        }
        before = at.slot;
        at.next(ring.slots());
      }
      wait_products<0>();
      ring.leave(before);
      close(sum);
    }
  }
};

}  // namespace

void launch_stream_codes(const product& p, int multiprocessors, cudaStream_t on) {
  constexpr auto what = "product of integers, few rows";
  return p.form == weight_form::int8 ? launch_stream_of<code_slots, int8_form>(what, p, multiprocessors, on)
                                     : launch_stream_of<code_slots, int4_form>(what, p, multiprocessors, on);
}

}  // namespace fastserve::kernels::cuda::hopper
