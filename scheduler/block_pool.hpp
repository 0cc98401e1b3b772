#pragma once

#include <cstdint>
#include <vector>

namespace fastserve::scheduler {

/// Tokens in one KV block. The same on every stage.
inline constexpr std::int32_t block_tokens = 16;

/// Blocks that `tokens` tokens need.
constexpr std::int32_t blocks_for(std::int64_t tokens) {
  return static_cast<std::int32_t>((tokens + block_tokens - 1) / block_tokens);
}

/// Who holds which KV block. Ids are the same on every stage of the pipeline, so this one object speaks for
/// the storage of all ranks.
class block_pool {
 public:
  explicit block_pool(std::int32_t blocks);

  std::int32_t capacity() const { return capacity_; }
  std::int32_t free_blocks() const { return static_cast<std::int32_t>(free_.size()) + capacity_ - touched(); }

  /// Appends `count` blocks with one reference each to `out`, or takes nothing and returns false.
  bool allocate(std::int32_t count, std::vector<std::int32_t>& out);
  /// Holders of the block; 0 = free.
  std::int32_t references(std::int32_t block) const {
    return block < touched() ? references_.at(static_cast<std::size_t>(block)) : 0;
  }
  /// One more holder of the block.
  void retain(std::int32_t block);
  /// One holder less; the last one frees the block.
  void release(std::int32_t block);
  void release_all(std::vector<std::int32_t>& blocks);

  /// Throws std::logic_error when a block is both free and held, or counted twice.
  void check_integrity() const;

 private:
  std::int32_t touched() const { return static_cast<std::int32_t>(references_.size()); }

  std::int32_t capacity_;
  std::vector<std::int32_t> references_;  // [block], of those that have ever been taken: the first so many
  std::vector<std::int32_t> free_;        // stack, of those
};

}  // namespace fastserve::scheduler
