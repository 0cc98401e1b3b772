#include "scheduler/swap_choice.hpp"

#include <algorithm>

namespace fastserve::scheduler {

time swap_time(const swap_limits& within, std::int32_t memory_blocks, std::int32_t disk_blocks) {
  return 2 * (memory_blocks * within.memory_block + disk_blocks * within.disk_block);
}

bool cheaper_to_swap(const swap_limits& within, const step_costs& costs, std::int32_t tokens,
                     std::int32_t memory_blocks, std::int32_t disk_blocks, std::int32_t chunk) {
  return swap_time(within, memory_blocks, disk_blocks) < costs.prefill(tokens, 0, chunk);
}

std::vector<time> next_schedule_times(std::span<const waiting_request> in_order, std::int32_t batch,
                                      time step) {
  // In f64: quanta double from queue to queue.
  constexpr double most = 9e18;
  std::vector<time> out;
  out.reserve(in_order.size());
  double ahead = 0;
  double before = 0;
  for (const auto& w : in_order) {
    const auto mine = static_cast<double>(w.service_before.count());
    const double wait = std::max(ahead * mine - before, 0.0) + ahead * static_cast<double>(step.count());
    const time execute{static_cast<std::int64_t>(std::min(wait / batch, most))};
    out.push_back(std::min(w.until_promotion, execute));
    ahead += 1;
    before += mine;
  }
  return out;
}

}  // namespace fastserve::scheduler
