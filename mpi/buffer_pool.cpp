#include "mpi/buffer_pool.hpp"

#include <array>
#include <bit>
#include <new>

namespace fastserve::mpi {
namespace {

constexpr std::align_val_t alignment{64};
constexpr int smallest_class = 8;  // 256 bytes
constexpr int largest_class = 48;

int class_of(std::size_t bytes) {
  const auto wanted = std::bit_width(bytes > 1 ? bytes - 1 : bytes);
  return wanted < smallest_class ? smallest_class : static_cast<int>(wanted);
}

constexpr std::size_t bytes_of(int size_class) { return std::size_t{1} << size_class; }

}  // namespace

struct pooled_buffer::store {
  explicit store(std::size_t max_idle) : max_idle_bytes{max_idle} {}
  store(const store&) = delete;
  store& operator=(const store&) = delete;
  ~store() {
    for (auto& free : idle)
      for (auto* data : free) ::operator delete(data, alignment);
  }

  void give_back(std::byte* data, int size_class) noexcept {
    {
      const std::lock_guard lock{mutex};
      auto& free = idle[static_cast<std::size_t>(size_class)];
      // No growth here, which could throw: acquire() made the room.
      if (idle_bytes + bytes_of(size_class) <= max_idle_bytes && free.size() < free.capacity()) {
        free.push_back(data);
        idle_bytes += bytes_of(size_class);
        return;
      }
    }
    ::operator delete(data, alignment);
  }

  mutable std::mutex mutex;
  std::array<std::vector<std::byte*>, largest_class + 1> idle;
  std::size_t idle_bytes = 0;
  std::size_t max_idle_bytes;
  std::uint64_t allocations = 0;
};

pooled_buffer::~pooled_buffer() {
  if (data_ != nullptr) home_->give_back(data_, class_);
}

buffer_pool::buffer_pool(std::size_t max_idle_bytes)
    : store_{std::make_shared<pooled_buffer::store>(max_idle_bytes)} {}

pooled_buffer buffer_pool::acquire(std::size_t bytes) {
  const int size_class = class_of(bytes);
  if (size_class > largest_class) throw std::bad_alloc{};
  {
    const std::lock_guard lock{store_->mutex};
    auto& free = store_->idle[static_cast<std::size_t>(size_class)];
    if (!free.empty()) {
      auto* data = free.back();
      free.pop_back();
      store_->idle_bytes -= bytes_of(size_class);
      return {store_, data, bytes, size_class};
    }
    if (free.capacity() < 1024) free.reserve(1024);
    ++store_->allocations;
  }
  auto* data = static_cast<std::byte*>(::operator new(bytes_of(size_class), alignment));
  return {store_, data, bytes, size_class};
}

std::size_t buffer_pool::idle_bytes() const {
  const std::lock_guard lock{store_->mutex};
  return store_->idle_bytes;
}

std::uint64_t buffer_pool::allocations() const {
  const std::lock_guard lock{store_->mutex};
  return store_->allocations;
}

}  // namespace fastserve::mpi
