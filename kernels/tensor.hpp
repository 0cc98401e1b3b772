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

/// Rows of q8 and of f8 lie [record of 128 columns][row][192 bytes]. A record has 128 codes, the nearest to x
/// / scale, and the scale as f32: max |x| / 127 of q8, max |x| / 448 of f8.
inline constexpr std::int64_t q8_columns = 128;
inline constexpr std::int64_t q8_record_bytes = 192;

/// Stride of a matrix of its own memory: see tensor_view. An odd number of rows in records spares cache sets.
constexpr std::int64_t stride_of(dtype type, std::int64_t rows, std::int64_t cols) noexcept {
  return in_records(type) ? rows | 1 : cols;
}

/// Bytes that a matrix of its own memory takes.
constexpr std::size_t bytes_of(dtype type, std::int64_t rows, std::int64_t cols) noexcept {
  if (!in_records(type)) return static_cast<std::size_t>(rows * cols) * size_of(type);
  const std::int64_t records = (cols + q8_columns - 1) / q8_columns;
  return static_cast<std::size_t>(records * stride_of(type, rows, cols) * q8_record_bytes);
}

/// A non-owning, row-major matrix [rows, cols] on one device. `stride` counts elements between the starts of
/// two rows, so that a view can name some columns of a wider matrix; in records, rows from one to the next.
/// Only kernels/ may follow `data`.
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
    v.data = static_cast<std::byte*>(data) + (in_records(type)
                                                  ? static_cast<std::size_t>(first * q8_record_bytes)
                                                  : static_cast<std::size_t>(first * stride) * size_of(type));
    v.rows = count;
    return v;
  }
  /// `count` columns from `first` on; keeps the stride. Not in records.
  tensor_view col_range(std::int64_t first, std::int64_t count) const {
    assert(!in_records(type));
    assert(first >= 0 && count >= 0 && first + count <= cols);
    auto v = *this;
    v.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(first) * size_of(type);
    v.cols = count;
    return v;
  }
  bool contiguous() const { return !in_records(type) && (stride == cols || rows <= 1); }
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
    assert(bytes_of(type, rows, cols) <= bytes_);
    return {data_, type, where_, rows, cols, stride_of(type, rows, cols)};
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
