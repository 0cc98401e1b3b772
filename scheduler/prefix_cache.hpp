#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "scheduler/block_pool.hpp"
#include "scheduler/first_blocks.hpp"

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
  /// `index`, unless null, is told under `number` of the first blocks of texts that come and go.
  explicit prefix_cache(block_pool& pool, first_blocks* index = nullptr, std::uint32_t number = 0)
      : pool_{pool}, index_{index}, number_{number} {}

  /// What `index` knows the text by; nothing when it has no whole block.
  static std::optional<std::uint64_t> first_key(std::uint64_t salt, std::span<const std::int32_t> tokens);

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
  std::int32_t evictable_blocks() const { return unused_; }

  /// Forgets what these blocks of one sequence, in order, hold, from the last one back as far as nothing
  /// hangs on them; returns how many. They stay with their holders, and what they hung on becomes evictable.
  std::int32_t forget(std::span<const std::int32_t> blocks);

  /// To be called after a holder gave back blocks, last block of the sequence first: those that only the
  /// cache holds now become evictable.
  void released(std::int32_t block);

  /// Forgets everything; the pool has been emptied already.
  void clear();

  std::size_t size() const { return size_; }
  std::uint64_t hit_tokens() const { return hit_tokens_; }
  std::uint64_t asked_tokens() const { return asked_tokens_; }

  /// Throws std::logic_error when tree, list and pool disagree.
  void check_integrity() const;

 private:
  // Where it is in nodes_. A node outlives its children, so that none is taken for the child of one that had
  // the same place before.
  using node_id = std::uint32_t;
  static constexpr node_id root = 0;
  struct node {
    std::uint64_t salt = 0;
    std::uint64_t key = 0;
    std::array<std::int32_t, block_tokens> tokens{};
    node_id parent = root;
    node_id next = root;                   // of the same bucket; of a free place: the next one
    node_id before = root, behind = root;  // in the ring of those evictable, from the root and back to it
    std::int32_t block = -1;               // of a free place, and of the root
    std::int32_t children = 0;
    bool unused = false;  // evictable
  };
  node_id child(node_id parent, std::uint64_t salt, std::span<const std::int32_t> tokens) const;
  node_id find(node_id parent, std::uint64_t salt, std::uint64_t key,
               std::span<const std::int32_t> tokens) const;
  static std::uint64_t key_of(node_id parent, std::uint64_t salt, std::span<const std::int32_t> tokens);
  node_id node_of(std::int32_t block) const;
  node_id make(node n);
  void widen();
  void use(node& n);
  void drop(node_id id);

  block_pool& pool_;
  first_blocks* index_;
  std::uint32_t number_;
  std::vector<node> nodes_ = std::vector<node>(1);  // the root first
  std::vector<node_id> buckets_;                    // by the key's low bits; heads of chains
  std::vector<node_id> by_block_;                   // [block], as far as needed; root: not cached
  node_id free_ = root;                             // places
  std::size_t size_ = 0;
  std::int32_t unused_ = 0;
  std::uint64_t hit_tokens_ = 0;
  std::uint64_t asked_tokens_ = 0;
};

}  // namespace fastserve::scheduler
