#include "actors/swap_room.hpp"

#include <algorithm>
#include <limits>

namespace fastserve::actors {

scheduler::swap_limits choose_slots(const std::vector<stage_ready>& stages, const swap_wishes& wishes) {
  std::uint64_t largest = 0;
  for (const auto& s : stages) largest = std::max(largest, s.kv_block_bytes);
  scheduler::swap_limits out;
  if (largest == 0) return out;
  constexpr std::uint64_t most = std::numeric_limits<std::int32_t>::max() / 2;
  out.memory_slots = static_cast<std::int32_t>(std::min(wishes.memory_bytes / largest, most));
  out.disk_slots = static_cast<std::int32_t>(std::min(wishes.disk_bytes / largest, most));
  return out;
}

void set_move_times(scheduler::swap_limits& swap, const std::vector<kv_ready>& stages) {
  for (const auto& s : stages) {
    swap.memory_block = std::max(swap.memory_block, scheduler::time{s.memory_block_ns});
    swap.disk_block = std::max(swap.disk_block, scheduler::time{s.disk_block_ns});
  }
}

}  // namespace fastserve::actors
