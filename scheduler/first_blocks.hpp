#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace fastserve::scheduler {

/// Which of many prefix caches hold the first block of a text, so that only those need be asked how much more
/// of it they hold. By the block's key alone: two texts of one key are taken for one.
class first_blocks {
 public:
  /// The cache `number` holds one more first block of this key; one less.
  void came(std::uint64_t key, std::uint32_t number);
  void went(std::uint64_t key, std::uint32_t number);
  /// The numbers of the caches that may hold it, in no order; one may be there twice.
  std::span<const std::uint32_t> holders(std::uint64_t key) const;
  std::size_t size() const { return holders_.size(); }

 private:
  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> holders_;
};

}  // namespace fastserve::scheduler
