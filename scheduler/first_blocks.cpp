#include "scheduler/first_blocks.hpp"

#include <algorithm>
#include <cassert>

namespace fastserve::scheduler {

void first_blocks::came(std::uint64_t key, std::uint32_t number) { holders_[key].push_back(number); }

void first_blocks::went(std::uint64_t key, std::uint32_t number) {
  const auto it = holders_.find(key);
  assert(it != holders_.end());
  auto& of = it->second;
  const auto at = std::find(of.begin(), of.end(), number);
  assert(at != of.end());
  *at = of.back();
  of.pop_back();
  if (of.empty()) holders_.erase(it);
}

std::span<const std::uint32_t> first_blocks::holders(std::uint64_t key) const {
  const auto it = holders_.find(key);
  return it == holders_.end() ? std::span<const std::uint32_t>{} : std::span<const std::uint32_t>{it->second};
}

}  // namespace fastserve::scheduler
