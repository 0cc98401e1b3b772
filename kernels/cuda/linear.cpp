#include "kernels/cuda/linear.hpp"

#include <bit>

#include "kernels/cuda/backend.hpp"
#include "kernels/cuda/hopper/hopper.hpp"
#include "kernels/cuda/rows.hpp"
#include "kernels/parts.hpp"

namespace fastserve::kernels::cuda {
namespace {

constexpr std::int64_t few_rows = 64;

}  // namespace

void launch_product(const product& p, int multiprocessors, cudaStream_t on) {
  if (p.form == weight_form::f32) return launch_product_f32(p, on);
  if (p.panels) return hopper::launch_product(p, multiprocessors, on);
  const bool numbers = p.form == weight_form::bf16 || p.form == weight_form::f16;
  // Large tiles want a block for every multiprocessor; otherwise weights are read again for every 64 rows.
  const bool many = p.rows > few_rows && parts(p.rows, 128) * parts(p.features, 128) >= multiprocessors;
  if (many) return numbers ? launch_tile_float(p, on) : launch_tile_integers(p, on);
  if (numbers) return launch_stream_float(p, on);
  return p.form == weight_form::w8a8 ? launch_stream_w8a8(p, on) : launch_stream_grouped(p, on);
}

void cuda_backend::give_scratch(product& p) {
  const auto wanted = hopper::scratch_of(p, cuts_.multiprocessors);
  assert(static_cast<std::size_t>(wanted.arrivals) * sizeof(std::uint32_t) <= arrivals_.bytes());
  p.arrivals = static_cast<std::uint32_t*>(arrivals_.data());
  if (wanted.partial_sums > 0)
    p.partial_sums = static_cast<float*>(
        partial_sums_.at_least(static_cast<std::size_t>(wanted.partial_sums) * sizeof(float)));
  if (wanted.opened > 0)
    p.opened = static_cast<char*>(opened_.at_least(static_cast<std::size_t>(wanted.opened)));
}

void cuda_backend::linear(tensor_view out, tensor_view in, const weight& by, tensor_view bias,
                          bool accumulate, stream& on) {
  assert(dynamic_cast<const cuda_weight*>(&by) != nullptr);
  const auto& w = static_cast<const cuda_weight&>(by);
  assert(in.cols == w.cols() && out.type == dtype::f32 && out.rows == in.rows && out.cols == w.rows());
  assert(bias.data == nullptr || (bias.type == dtype::f32 && bias.rows * bias.cols == w.rows()));
  const auto wanted = w.input_type();
  assert(in.type == wanted || (wanted == dtype::q8 && in.type == dtype::f32));
  const auto handle = use(on);
  if (in.rows == 0) return;

  product p{};
  p.rows = in.rows;
  p.out_stride = out.stride;
  p.accumulate = accumulate;
  if (wanted == dtype::q8) {
    if (in.type != dtype::q8) {
      const tensor_view rounded{input_.at_least(kernels::bytes_of(dtype::q8, in.rows, in.cols)),
                                dtype::q8,
                                in.where,
                                in.rows,
                                in.cols,
                                stride_of(dtype::q8, in.rows, in.cols)};
      launch_quantize(rounded, in, handle);
      in = rounded;
    }
    p.input = static_cast<const char*>(in.data);
    p.row_bytes = q8_record_bytes;
    p.unit_bytes = in.stride * q8_record_bytes;
  } else {
    const auto size = static_cast<std::int64_t>(size_of(in.type));
    const bool whole = in.cols % unit_columns == 0 && in.stride * size % 16 == 0 &&
                       reinterpret_cast<std::uintptr_t>(in.data) % 16 == 0;
    if (!whole) {
      const std::int64_t columns = parts(in.cols, unit_columns) * unit_columns;
      void* padded = input_.at_least(kernels::bytes_of(in.type, in.rows, columns));
      launch_pad(padded, columns, in, handle);
      in.data = padded;
      in.stride = columns;
    }
    p.input = static_cast<const char*>(in.data);
    p.row_bytes = in.stride * size;
    p.unit_bytes = unit_columns * size;
  }
  for (const auto& s : w.sections()) {
    p.form = s.form;
    p.panels = s.panels;
    p.weights = w.data() + s.tiles_at;
    p.features = s.rows;
    p.units = s.units;
    p.out = static_cast<float*>(out.data) + s.first_row;
    p.bias = bias.data == nullptr ? nullptr : static_cast<const float*>(bias.data) + s.first_row;
    p.scales = w.data() + s.scales_at;
    p.zeros = w.data() + s.zeros_at;
    p.groups = s.groups;
    p.group_shift = s.format.group == 0 ? 30 : std::countr_zero(static_cast<unsigned>(s.format.group));
    p.zero = s.format.zero;
    p.record = s.record;
    if (p.panels) give_scratch(p);
    launch_product(p, cuts_.multiprocessors, handle);
  }
}

}  // namespace fastserve::kernels::cuda
