#include "scheduler/block_pool.hpp"

#include <cassert>
#include <stdexcept>

namespace fastserve::scheduler {

block_pool::block_pool(std::int32_t blocks) : capacity_{blocks} {}

bool block_pool::allocate(std::int32_t count, std::vector<std::int32_t>& out) {
  if (count > free_blocks()) return false;
  for (std::int32_t i = 0; i < count; ++i) {
    if (free_.empty()) {
      out.push_back(touched());
      references_.push_back(1);
      continue;
    }
    out.push_back(free_.back());
    references_[static_cast<std::size_t>(free_.back())] = 1;
    free_.pop_back();
  }
  return true;
}

void block_pool::retain(std::int32_t block) {
  auto& n = references_.at(static_cast<std::size_t>(block));
  assert(n > 0);
  ++n;
}

void block_pool::release(std::int32_t block) {
  auto& n = references_.at(static_cast<std::size_t>(block));
  assert(n > 0);
  if (--n == 0) free_.push_back(block);
}

void block_pool::release_all(std::vector<std::int32_t>& blocks) {
  for (const auto b : blocks) release(b);
  blocks.clear();
}

void block_pool::check_integrity() const {
  if (touched() > capacity_) throw std::logic_error("more blocks were taken than there are");
  std::vector<bool> seen(references_.size(), false);
  for (const auto b : free_) {
    const auto i = static_cast<std::size_t>(b);
    if (seen.at(i)) throw std::logic_error("block " + std::to_string(b) + " is free twice");
    if (references_[i] != 0) throw std::logic_error("block " + std::to_string(b) + " is free and held");
    seen[i] = true;
  }
  for (std::size_t i = 0; i < references_.size(); ++i)
    if (!seen[i] && references_[i] <= 0)
      throw std::logic_error("block " + std::to_string(i) + " is neither free nor held");
}

}  // namespace fastserve::scheduler
