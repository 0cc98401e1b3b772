#include "kernels/cpu/memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <new>
#include <string>

#include "kernels/cpu/topology.hpp"

namespace fastserve::kernels::cpu {
namespace {

constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;
constexpr std::size_t checked_bytes = std::size_t{64} << 20;  // smaller pieces are not worth reading /proc

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

void release_small(void* data, std::size_t, device) { std::free(data); }
void release_large(void* data, std::size_t bytes, device) { munmap(data, round_up(bytes, huge_page_bytes)); }

/// Maps whole huge pages at a huge page's boundary.
void* map_large(std::size_t bytes) {
  const std::size_t size = round_up(bytes, huge_page_bytes);
  void* raw =
      mmap(nullptr, size + huge_page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc{};
  auto* start = static_cast<char*>(raw);
  const auto address = reinterpret_cast<std::uintptr_t>(raw);
  const std::size_t before = round_up(address, huge_page_bytes) - address;
  if (before > 0) munmap(start, before);
  if (before < huge_page_bytes) munmap(start + before + size, huge_page_bytes - before);
#ifdef MADV_HUGEPAGE
  madvise(start + before, size, MADV_HUGEPAGE);  // a refusal only costs speed
#endif
  return start + before;
}

}  // namespace

buffer allocate_memory(std::size_t bytes) {
  bytes = std::max(bytes, std::size_t{64});
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc{};
  if (bytes >= checked_bytes && bytes > available_memory()) throw std::bad_alloc{};
  if (bytes >= huge_page_bytes) return {map_large(bytes), bytes, device{}, release_large};
  void* data = std::aligned_alloc(64, round_up(bytes, 64));
  if (data == nullptr) throw std::bad_alloc{};
  return {data, bytes, device{}, release_small};
}

std::size_t available_memory() {
  std::size_t available = std::numeric_limits<std::size_t>::max() / 2;
  std::ifstream file{"/proc/meminfo"};
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("MemAvailable:", 0) == 0) {
      available = std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
      break;
    }
  }
  return std::min(available, group_memory_left());
}

}  // namespace fastserve::kernels::cpu
