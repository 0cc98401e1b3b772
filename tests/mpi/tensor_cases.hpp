#pragma once

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <memory>
#include <vector>

#include "far_backend.hpp"
#include "mpi/tensor_channel.hpp"

namespace fastserve::tests {

/// A tensor on the far device whose bytes follow from a seed.
class test_tensor {
 public:
  test_tensor(far_backend& device, kernels::stream& on, kernels::dtype type, std::int64_t rows,
              std::int64_t cols, std::uint64_t seed)
      : device_{device}, on_{on}, bytes_(static_cast<std::size_t>(rows * cols) * kernels::size_of(type)) {
    for (auto& b : bytes_)
      b = static_cast<std::byte>((seed = seed * 6364136223846793005ULL + 1442695040888963407ULL) >> 56);
    memory_ = device.allocate(bytes_.size() + 4);
    view = {memory_.data(), type, memory_.where(), rows, cols, cols};
    device.upload(view, bytes_.data(), on);
  }

  void clear() {
    const std::vector<std::byte> zeros(bytes_.size());
    device_.upload(view, zeros.data(), on_);
  }
  /// Whether the device holds the bytes made from the seed.
  bool intact() {
    std::vector<std::byte> now(bytes_.size());
    device_.download(now.data(), view, on_);
    return now == bytes_;
  }

  kernels::tensor_view view;

 private:
  far_backend& device_;
  kernels::stream& on_;
  std::vector<std::byte> bytes_;
  kernels::buffer memory_;
};

inline constexpr kernels::dtype all_dtypes[] = {kernels::dtype::f32, kernels::dtype::f16,
                                                kernels::dtype::bf16, kernels::dtype::i32};

}  // namespace fastserve::tests
