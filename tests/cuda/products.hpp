#pragma once

#include "fixture.hpp"

namespace fastserve::kernels {

/// The first rows of a matrix.
inline matrix first_rows(const matrix& m, std::int64_t rows) {
  matrix part{rows, m.cols};
  part.values.assign(m.values.begin(), m.values.begin() + rows * m.cols);
  return part;
}

/// out = in . w + bias + out, where rows are rounded on the way.
inline matrix product_of(backend& ops, const weight& w, const matrix& in, const std::vector<float>& bias,
                         const matrix& residual) {
  const auto on = ops.make_stream();
  const auto put = [&](const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
    auto memory = ops.allocate(values.size() * sizeof(float));
    ops.upload(memory.view(dtype::f32, rows, cols), values.data(), *on);
    return memory;
  };
  const auto rows = put(in.values, in.rows, in.cols);
  const auto added = put(bias, 1, w.rows());
  const auto out = put(residual.values, in.rows, w.rows());
  ops.linear(out.view(dtype::f32, in.rows, w.rows()), rows.view(dtype::f32, in.rows, in.cols), w,
             added.view(dtype::f32, 1, w.rows()), true, *on);
  matrix found{in.rows, w.rows()};
  ops.download(found.values.data(), out.view(dtype::f32, in.rows, w.rows()), *on);
  return found;
}

}  // namespace fastserve::kernels
