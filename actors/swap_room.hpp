#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "actors/messages.hpp"
#include "scheduler/swap_choice.hpp"

namespace fastserve::actors {

/// What the user gives of each rank for the KV of preempted requests. Zeros: nothing.
struct swap_wishes {
  std::uint64_t memory_bytes = 0;
  std::uint64_t disk_bytes = 0;
};

/// As many slots as every stage has room for; the numbers are the same on all of them.
scheduler::swap_limits choose_slots(const std::vector<stage_ready>& stages, const swap_wishes& wishes);

/// What moving a block takes on the slowest stage.
void set_move_times(scheduler::swap_limits& swap, const std::vector<kv_ready>& stages);

}  // namespace fastserve::actors
