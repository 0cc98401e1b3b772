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

namespace {

const cuda_weight& weight_of(const weight& w) {
  assert(dynamic_cast<const cuda_weight*>(&w) != nullptr);
  return static_cast<const cuda_weight&>(w);
}

product product_to(tensor_view out, [[maybe_unused]] const weight& by, bool accumulate) {
  assert(out.type == dtype::f32 && out.cols == by.rows());
  product p{};
  p.out = static_cast<float*>(out.data);
  p.out_stride = out.stride;
  p.accumulate = accumulate;
  return p;
}

product gated_product_to(tensor_view out, [[maybe_unused]] const weight& by, activation f) {
  assert(2 * out.cols == by.rows() && out.cols % cuda::gated_turn == 0 && is_logistic(f));
  product p{};
  p.gated = true;
  p.f = f;
  p.active = out.data;
  p.active_stride = out.stride;
  p.active_type = out.type;
  return p;
}

/// Whether kernels may take 16 bytes of it at once from its first element on.
bool is_whole(tensor_view v) { return reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0; }

}  // namespace

void cuda_backend::linear(tensor_view out, tensor_view in, const weight& by, tensor_view bias,
                          bool accumulate, stream& on) {
  assert(out.rows == in.rows);
  multiply(product_to(out, by, accumulate), in, weight_of(by), bias, use(on));
}

std::int64_t cuda_backend::gated_turn(activation f, dtype compute) const {
  return hopper_ && is_logistic(f) && compute != dtype::f32 ? cuda::gated_turn : 0;
}

void cuda_backend::linear_gated(tensor_view out, tensor_view in, const weight& by, tensor_view bias,
                                activation f, stream& on) {
  assert(out.rows == in.rows && hopper_);
  const auto handle = use(on);
  const auto to = in_records(out.type) ? unrounded(out) : out;
  multiply(gated_product_to(to, by, f), in, weight_of(by), bias, handle);
  if (in_records(out.type)) launch_quantize(out, to, handle);
}

bool cuda_backend::give_norm(product& p, [[maybe_unused]] tensor_view normed, tensor_view in,
                             const norm_weights& by, const cuda_weight& w) const {
  assert(in.type == dtype::f32 && in.rows == normed.rows && in.cols == normed.cols);
  assert(normed.type == w.input_type() && by.gain.type == dtype::f32 && by.gain.cols == in.cols);
  const auto& s = w.sections().front();
  if (w.sections().size() != 1 || !s.panels || by.kind != norm_kind::rms || !is_whole(in) ||
      !is_whole(by.gain) || !hopper::norms(s.form, in.rows, in.cols)) {
    return false;
  }
  p.unnormed = static_cast<const float*>(in.data);
  p.gain = static_cast<const float*>(by.gain.data);
  p.epsilon = by.epsilon;
  p.norm_columns = in.cols;
  return true;
}

void cuda_backend::norm_linear(tensor_view out, tensor_view normed, tensor_view in, const norm_weights& by,
                               const weight& w, tensor_view bias, stream& on) {
  auto p = product_to(out, w, false);
  if (!give_norm(p, normed, in, by, weight_of(w)))
    return backend::norm_linear(out, normed, in, by, w, bias, on);
  multiply(p, normed, weight_of(w), bias, use(on));
}

void cuda_backend::norm_linear_gated(tensor_view out, tensor_view normed, tensor_view in,
                                     const norm_weights& by, const weight& w, tensor_view bias, activation f,
                                     stream& on) {
  auto p = gated_product_to(out, w, f);
  if (in_records(out.type) || !give_norm(p, normed, in, by, weight_of(w)))
    return backend::norm_linear_gated(out, normed, in, by, w, bias, f, on);
  multiply(p, normed, weight_of(w), bias, use(on));
}

void cuda_backend::multiply(product p, tensor_view in, const cuda_weight& w, tensor_view bias,
                            cudaStream_t on) {
  assert(in.cols == w.cols());
  assert(bias.data == nullptr || (bias.type == dtype::f32 && bias.rows * bias.cols == w.rows()));
  const auto wanted = w.input_type();
  assert(in.type == wanted || (in_records(wanted) && in.type == dtype::f32));
  if (in.rows == 0) return;

  p.rows = in.rows;
  if (in_records(wanted)) {
    if (in.type != wanted) {
      const tensor_view rounded{input_.at_least(kernels::bytes_of(wanted, in.rows, in.cols)),
                                wanted,
                                in.where,
                                in.rows,
                                in.cols,
                                stride_of(wanted, in.rows, in.cols)};
      launch_quantize(rounded, in, on);
      in = rounded;
    }
    p.input = static_cast<const char*>(in.data);
    p.row_bytes = q8_record_bytes;
    p.unit_bytes = in.stride * q8_record_bytes;
  } else {
    const auto size = static_cast<std::int64_t>(size_of(in.type));
    const bool whole = in.cols % unit_columns == 0 && in.stride * size % 16 == 0 && is_whole(in);
    if (!whole && p.unnormed == nullptr) {
      const std::int64_t columns = parts(in.cols, unit_columns) * unit_columns;
      void* padded = input_.at_least(kernels::bytes_of(in.type, in.rows, columns));
      launch_pad(padded, columns, in, on);
      in.data = padded;
      in.stride = columns;
    }
    p.input = static_cast<const char*>(in.data);
    p.row_bytes = in.stride * size;
    p.unit_bytes = unit_columns * size;
  }
  for (const auto& s : w.sections()) {
    product part = p;
    part.form = s.form;
    part.panels = s.panels;
    part.weights = w.data() + s.tiles_at;
    part.features = s.rows;
    part.units = s.units;
    part.panel_segment_units = panel_segment_units(s.form, s.rows, s.units);
    if (p.gated) {
      assert(s.panels);
      part.active =
          static_cast<char*>(p.active) + s.first_row / 2 * static_cast<std::int64_t>(size_of(p.active_type));
    } else {
      part.out = p.out + s.first_row;
    }
    part.bias = bias.data == nullptr ? nullptr : static_cast<const float*>(bias.data) + s.first_row;
    part.scales = w.data() + s.scales_at;
    part.zeros = w.data() + s.zeros_at;
    part.groups = s.groups;
    part.group_shift = s.format.group == 0 ? 30 : std::countr_zero(static_cast<unsigned>(s.format.group));
    part.zero = s.format.zero;
    part.record = s.record;
    if (part.panels) give_scratch(part);
    launch_product(part, cuts_.multiprocessors, on);
  }
}

}  // namespace fastserve::kernels::cuda
