#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/dtype.hpp"

namespace fastserve::kernels {

enum class device_kind : std::uint8_t { cpu, cuda };

/// Where memory lives and ops run.
struct device {
  device_kind kind = device_kind::cpu;
  int ordinal = 0;
  friend bool operator==(const device&, const device&) = default;
};

/// A non-owning, row-major matrix [rows, cols] on one device. `stride` counts elements between the starts of
/// two rows, so that a view can name some columns of a wider matrix. Only kernels/ may follow `data`.
struct tensor_view {
  void* data = nullptr;
  dtype type = dtype::f32;
  device where;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  /// `count` rows from `first` on.
  tensor_view row_range(std::int64_t first, std::int64_t count) const {
    assert(first >= 0 && count >= 0 && first + count <= rows);
    auto v = *this;
    v.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(first * stride) * size_of(type);
    v.rows = count;
    return v;
  }
  /// `count` columns from `first` on; keeps the stride.
  tensor_view col_range(std::int64_t first, std::int64_t count) const {
    assert(first >= 0 && count >= 0 && first + count <= cols);
    auto v = *this;
    v.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(first) * size_of(type);
    v.cols = count;
    return v;
  }
  bool contiguous() const { return stride == cols || rows <= 1; }
  /// Bytes of the elements; meaningful for a contiguous view.
  std::size_t bytes() const { return static_cast<std::size_t>(rows * cols) * size_of(type); }
};

/// Memory owned on one device. Freed by the back end that allocated it.
class buffer {
 public:
  using release_fn = void (*)(void* data, std::size_t bytes, device where);

  buffer() = default;
  buffer(void* data, std::size_t bytes, device where, release_fn release)
      : data_{data}, bytes_{bytes}, where_{where}, release_{release} {}
  buffer(buffer&& other) noexcept { swap(other); }
  buffer& operator=(buffer&& other) noexcept {
    buffer{std::move(other)}.swap(*this);
    return *this;
  }
  ~buffer() {
    if (data_ != nullptr) release_(data_, bytes_, where_);
  }

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  device where() const { return where_; }
  bool empty() const { return data_ == nullptr; }

  /// The first rows * cols elements as a matrix.
  tensor_view view(dtype type, std::int64_t rows, std::int64_t cols) const {
    assert(static_cast<std::size_t>(rows * cols) * size_of(type) <= bytes_);
    return {data_, type, where_, rows, cols, cols};
  }

 private:
  void swap(buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(where_, other.where_);
    std::swap(release_, other.release_);
  }

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  device where_;
  release_fn release_ = nullptr;
};

}  // namespace fastserve::kernels
