#pragma once

#include "kernels/cuda/linear_units.cuh"

namespace fastserve::kernels::cuda::hopper {

/// A warp's 16 features of one unit of a record, opened to the operands of four steps. words(offset of the
/// record): 16 bytes there; word(offset): four. `by`: of the group; goes from a record's first unit to its
/// second.
template <class Form, class Words, class Word>
FASTSERVE_DEVICE void open_unit(std::uint32_t (&a)[4][4], group_numbers& by, const product& p, int tile,
                                int unit, Words&& words, Word&& word) {
  const int lane = thread_index() % warp_lanes;
  vec4 w[Form::vectors];
#pragma unroll
  for (int v = 0; v < Form::vectors; ++v)
    w[v] = words(((unit * panel_tiles + tile) * Form::vectors + v) * warp_lanes * 16 + lane * 16);
  constexpr int steps = unit_columns / 16;
  constexpr int numbers_at =
      code_record::numbers_at(Form::vectors == 2 ? weight_form::int8 : weight_form::int4);
  const int groups_log2 = p.record.groups_log2;
#pragma unroll
  for (int step = 0; step < steps; ++step) {
    const int at_step = unit * steps + step;  // of the record's eight
    const bool begins = at_step == 0 || (at_step == 4 && groups_log2 > 0) ||
                        (at_step % 2 == 0 && groups_log2 > 1) || groups_log2 > 2;
    if (begins) {
      const int group = at_step << groups_log2 >> 3;
      const int at = numbers_at + group * code_record::group_bytes + (tile * 8 + lane / 4) * 4;
      by = numbers_of<Form>(p.zero, word(at),
                            p.zero == zero_kind::none ? 0U : word(at + p.record.all_groups_bytes()));
    }
    decode(Form{}, a[step], w, step, by);
  }
}

}  // namespace fastserve::kernels::cuda::hopper
