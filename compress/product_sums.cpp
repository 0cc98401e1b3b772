#include "compress/product_sums.hpp"

#include <array>

namespace fastserve::compress {

using kernels::dtype;

product_sums::product_sums(std::int64_t rows, std::int64_t cols, kernels::backend& on,
                           kernels::stream& stream)
    : rows_{rows}, cols_{cols}, backend_{on}, stream_{stream} {
  const auto size = static_cast<std::size_t>(rows * cols);
  sums_ = backend_.allocate(size * sizeof(float));
  backend_.upload(sums_.view(dtype::f32, rows, cols), std::vector<float>(size).data(), stream_);
}

void product_sums::add(const std::vector<float>& a, const std::vector<float>& b) {
  const auto count = static_cast<std::int64_t>(b.size()) / cols_;
  // a^T times b as a weight whose input features are the tokens
  std::vector<float> transposed(a.size());
  for (std::int64_t t = 0; t < count; ++t)
    for (std::int64_t r = 0; r < rows_; ++r)
      transposed[static_cast<std::size_t>(r * count + t)] = a[static_cast<std::size_t>(t * rows_ + r)];
  const auto bytes = kernels::bytes_of(dtype::f32, rows_, count);
  if (left_.bytes() < bytes) left_ = backend_.allocate(bytes);
  const auto left = left_.view(dtype::f32, rows_, count);
  backend_.upload(left, transposed.data(), stream_);
  const std::array<kernels::host_matrix, 1> right{{{b.data(), dtype::f32, cols_, count, true}}};
  const auto weight = backend_.pack(right, dtype::f32);
  backend_.linear(sums_.view(dtype::f32, rows_, cols_), left, *weight, {}, true, stream_);
}

std::vector<float> product_sums::values() const {
  std::vector<float> out(static_cast<std::size_t>(rows_ * cols_));
  backend_.download(out.data(), sums_.view(dtype::f32, rows_, cols_), stream_);
  return out;
}

}  // namespace fastserve::compress
