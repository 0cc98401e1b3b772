#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "scheduler/block_pool.hpp"

namespace fastserve::scheduler {

/// Full KV blocks by what they hold, shared between running and finished requests. A block's content is its
/// sixteen tokens and everything before them, so blocks form a tree; a node is found by its parent and its
/// tokens, and the tokens themselves are compared, never the hash alone. Each tenant's `salt` has a tree of
/// its own.
///
/// The cache holds one reference in the pool on every block that it knows. A block that nobody else holds is
/// evictable, least recently used first, leaves before their parents.
class prefix_cache {
 public:
  explicit prefix_cache(block_pool& pool) : pool_{pool} {}

  /// The longest known prefix of `tokens` in whole blocks: appends its blocks to `out`, each retained for the
  /// caller, and returns the number of tokens. At most `max_tokens` (the last token of a prompt must be
  /// computed).
  std::int32_t match(std::uint64_t salt, std::span<const std::int32_t> tokens, std::int32_t max_tokens,
                     std::vector<std::int32_t>& out);

  /// How many tokens match() would find now; nothing changes.
  std::int32_t peek(std::uint64_t salt, std::span<const std::int32_t> tokens, std::int32_t max_tokens) const;

  /// Tells that blocks[i] holds tokens [16 i, 16 i + 16), for the first `computed` tokens rounded down to
  /// whole blocks. What is known already stays as it is (two requests may compute the same prefix at once).
  /// `known` is how many of the blocks were told before; returns the new number.
  std::size_t insert(std::uint64_t salt, std::span<const std::int32_t> tokens, std::int32_t computed,
                     std::span<const std::int32_t> blocks, std::size_t known);

  /// Frees up to `count` evictable blocks; returns how many.
  std::int32_t evict(std::int32_t count);
  std::int32_t evictable_blocks() const { return static_cast<std::int32_t>(unused_.size()); }

  /// Forgets what these blocks of one sequence, in order, hold, from the last one back as far as nothing
  /// hangs on them; returns how many. They stay with their holders, and what they hung on becomes evictable.
  std::int32_t forget(std::span<const std::int32_t> blocks);

  /// To be called after a holder gave back blocks, last block of the sequence first: those that only the
  /// cache holds now become evictable.
  void released(std::int32_t block);

  /// Forgets everything; the pool has been emptied already.
  void clear();

  std::size_t size() const { return nodes_.size(); }
  std::uint64_t hit_tokens() const { return hit_tokens_; }
  std::uint64_t asked_tokens() const { return asked_tokens_; }

  /// Throws std::logic_error when tree, list and pool disagree.
  void check_integrity() const;

 private:
  using node_id = std::uint64_t;  // 0 is the root
  struct node {
    node_id parent = 0;
    std::uint64_t salt = 0;
    std::uint64_t key = 0;
    std::int32_t block = 0;
    std::vector<std::int32_t> tokens;
    std::int32_t children = 0;
    std::list<node_id>::iterator place;  // in unused_, when evictable
    bool unused = false;
  };
  node_id child(node_id parent, std::uint64_t salt, std::span<const std::int32_t> tokens) const;
  node_id find(node_id parent, std::uint64_t salt, std::uint64_t key,
               std::span<const std::int32_t> tokens) const;
  static std::uint64_t key_of(node_id parent, std::uint64_t salt, std::span<const std::int32_t> tokens);
  void use(node& n);
  void drop(node_id id);

  block_pool& pool_;
  std::unordered_map<node_id, node> nodes_;
  std::unordered_multimap<std::uint64_t, node_id> by_key_;
  std::unordered_map<std::int32_t, node_id> by_block_;
  std::list<node_id> unused_;  // evictable; front goes first
  node_id next_id_ = 1;
  std::uint64_t hit_tokens_ = 0;
  std::uint64_t asked_tokens_ = 0;
};

}  // namespace fastserve::scheduler
