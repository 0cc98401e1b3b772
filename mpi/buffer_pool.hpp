#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace fastserve::mpi {

class buffer_pool;

/// Host memory lent by a buffer_pool, 64-byte aligned and uninitialised; returns there when it dies. May
/// outlive the pool object.
class pooled_buffer {
 public:
  pooled_buffer() = default;
  pooled_buffer(pooled_buffer&& other) noexcept { swap(other); }
  pooled_buffer& operator=(pooled_buffer&& other) noexcept {
    pooled_buffer{std::move(other)}.swap(*this);
    return *this;
  }
  ~pooled_buffer();

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return data_ == nullptr; }
  /// Gives the memory up without freeing it: for a transfer that may still write to it for ever.
  void leak() noexcept { data_ = nullptr; }

 private:
  friend class buffer_pool;
  struct store;
  pooled_buffer(std::shared_ptr<store> home, std::byte* data, std::size_t size, int size_class)
      : home_{std::move(home)}, data_{data}, size_{size}, class_{size_class} {}
  void swap(pooled_buffer& other) noexcept {
    std::swap(home_, other.home_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(class_, other.class_);
  }

  std::shared_ptr<store> home_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int class_ = 0;
};

/// Recycles buffers by powers of two, so that steady traffic allocates nothing. Thread-safe.
class buffer_pool {
 public:
  /// Keeps at most `max_idle_bytes` of returned memory; the rest is freed.
  explicit buffer_pool(std::size_t max_idle_bytes);

  /// Throws std::bad_alloc.
  pooled_buffer acquire(std::size_t bytes);
  /// Memory waiting for its next use.
  std::size_t idle_bytes() const;
  /// Buffers that had to be allocated so far.
  std::uint64_t allocations() const;

 private:
  std::shared_ptr<pooled_buffer::store> store_;
};

}  // namespace fastserve::mpi
