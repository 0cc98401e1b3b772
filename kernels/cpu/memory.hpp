#pragma once

#include <cstddef>
#include <span>

#include "kernels/tensor.hpp"

namespace fastserve::kernels::cpu {

/// Host memory aligned to 64 bytes; large pieces in huge pages where the system has them, zeroed by it.
/// Throws std::bad_alloc, also when a large piece exceeds what is free (the system itself would only say so
/// by ending the process at first use).
buffer allocate_memory(std::size_t bytes);

inline std::span<std::byte> as_bytes(const buffer& memory) {
  return {static_cast<std::byte*>(memory.data()), memory.bytes()};
}

/// Bytes that this process may still take: of the machine, and of its control group.
std::size_t available_memory();

/// Memory that only grows: `at_least` keeps the old piece when that is large enough. Contents are not kept.
class scratch {
 public:
  void* at_least(std::size_t bytes) {
    if (memory_.bytes() < bytes) {
      memory_ = {};
      memory_ = allocate_memory(bytes);
    }
    return memory_.data();
  }
  float* floats(std::size_t count) { return static_cast<float*>(at_least(count * sizeof(float))); }

 private:
  buffer memory_;
};

}  // namespace fastserve::kernels::cpu
