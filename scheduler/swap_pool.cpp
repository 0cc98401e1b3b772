#include "scheduler/swap_pool.hpp"

#include <cassert>
#include <stdexcept>
#include <string>

namespace fastserve::scheduler {

swap_pool::swap_pool(std::int32_t memory_slots, std::int32_t disk_slots)
    : memory_slots_{memory_slots},
      slots_(static_cast<std::size_t>(memory_slots) + static_cast<std::size_t>(disk_slots)) {
  for (auto i = memory_slots - 1; i >= 0; --i) free_memory_.push_back(i);
  for (auto i = disk_slots - 1; i >= 0; --i) free_disk_.push_back(memory_slots + i);
}

std::int32_t swap_pool::unsaved(std::span<const std::int32_t> blocks) const {
  std::int32_t n = 0;
  for (const auto b : blocks) n += slot_of_.contains(b) ? 0 : 1;
  return n;
}

bool swap_pool::save(std::span<const std::int32_t> blocks, std::size_t full, std::vector<std::int32_t>& out,
                     std::vector<block_move>& moves) {
  if (unsaved(blocks) > free_slots()) return false;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto known = slot_of_.find(blocks[i]);
    if (known != slot_of_.end()) {
      ++slots_[static_cast<std::size_t>(known->second)].references;
      out.push_back(known->second);
      continue;
    }
    auto& from = free_memory_.empty() ? free_disk_ : free_memory_;
    const auto taken = from.back();
    from.pop_back();
    slots_[static_cast<std::size_t>(taken)] = {1, i < full ? blocks[i] : -1};
    if (i < full) slot_of_[blocks[i]] = taken;
    out.push_back(taken);
    moves.push_back({move_kind::out, blocks[i], taken});
  }
  return true;
}

void swap_pool::overwritten(std::int32_t block) {
  const auto it = slot_of_.find(block);
  if (it == slot_of_.end()) return;
  slots_[static_cast<std::size_t>(it->second)].block = -1;
  slot_of_.erase(it);
}

void swap_pool::release_all(std::vector<std::int32_t>& slots) {
  for (const auto i : slots) {
    auto& s = slots_.at(static_cast<std::size_t>(i));
    assert(s.references > 0);
    if (--s.references > 0) continue;
    if (s.block >= 0) slot_of_.erase(s.block);
    s.block = -1;
    (on_disk(i) ? free_disk_ : free_memory_).push_back(i);
  }
  slots.clear();
}

void swap_pool::check_integrity() const {
  std::vector<bool> seen(slots_.size(), false);
  for (const auto* list : {&free_memory_, &free_disk_})
    for (const auto i : *list) {
      const auto at = static_cast<std::size_t>(i);
      if (seen.at(at)) throw std::logic_error("swap slot " + std::to_string(i) + " is free twice");
      if (slots_[at].references != 0 || slots_[at].block != -1)
        throw std::logic_error("swap slot " + std::to_string(i) + " is free and held");
      if (on_disk(i) != (list == &free_disk_))
        throw std::logic_error("swap slot " + std::to_string(i) + " is in the wrong list");
      seen[at] = true;
    }
  std::size_t known = 0;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (!seen[i] && slots_[i].references <= 0)
      throw std::logic_error("swap slot " + std::to_string(i) + " is neither free nor held");
    if (slots_[i].block < 0) continue;
    ++known;
    const auto it = slot_of_.find(slots_[i].block);
    if (it == slot_of_.end() || it->second != static_cast<std::int32_t>(i))
      throw std::logic_error("swap slot " + std::to_string(i) + " is not where its block is looked for");
  }
  if (known != slot_of_.size()) throw std::logic_error("the swap pool's tables disagree");
}

}  // namespace fastserve::scheduler
