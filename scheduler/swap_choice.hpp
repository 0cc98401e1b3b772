#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/cost_model.hpp"
#include "scheduler/request.hpp"

namespace fastserve::scheduler {

/// Room for preempted KV outside of the KV store, and what moving a block there or back takes. All zero:
/// none.
struct swap_limits {
  std::int32_t memory_slots = 0;  ///< blocks in host memory, the same on every stage
  std::int32_t disk_slots = 0;    ///< blocks in a file
  time memory_block{};            ///< one block one way, on the slowest stage
  time disk_block{};

  bool any() const { return memory_slots + disk_slots > 0; }
};

/// Copying `memory_blocks` and `disk_blocks` blocks out and in again.
time swap_time(const swap_limits& within, std::int32_t memory_blocks, std::int32_t disk_blocks);

/// Whether `tokens` tokens of KV are cheaper to copy out and in again than to drop and prefill again, in
/// steps of at most `chunk` rows.
bool cheaper_to_swap(const swap_limits& within, const step_costs& costs, std::int32_t tokens,
                     std::int32_t memory_blocks, std::int32_t disk_blocks, std::int32_t chunk);

/// A request that waits for its next step, as its policy describes it (policy.hpp).
struct waiting_request {
  time service_before{};
  time until_promotion = time::max();
};

/// Estimated next schedule time of each of these requests, the most urgent first (FastServe, arXiv
/// 2305.05920, section 4.2): ENST(i) = min(T_promote(i), T_execute(i)), where T_execute(i) is the service
/// that those ahead of i have a right to before its turn comes, over the `batch` that run at once. Each has a
/// step of its own at least, so that the order decides among equals.
std::vector<time> next_schedule_times(std::span<const waiting_request> in_order, std::int32_t batch,
                                      time step);

}  // namespace fastserve::scheduler
