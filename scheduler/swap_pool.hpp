#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace fastserve::scheduler {

/// What is done to blocks of the KV store on every stage alike.
enum class move_kind : std::uint8_t {
  copy,  ///< block <- block `other`
  out,   ///< slot `other` <- block
  in     ///< block <- slot `other`
};

struct block_move {
  move_kind kind{};
  std::int32_t block = 0;
  std::int32_t other = 0;
};

/// Moves to be carried out in this order, after those of every smaller ticket.
struct move_order {
  std::uint64_t ticket = 0;
  std::vector<block_move> moves;
};

/// Room for blocks outside of the KV store: `memory` slots in host memory, numbered from 0, then `disk` slots
/// in a file. The same numbers on every stage, so this one object speaks for all of them.
///
/// A full block that several sequences hold is saved once: the slot has a reference for each.
class swap_pool {
 public:
  swap_pool(std::int32_t memory_slots, std::int32_t disk_slots);

  std::int32_t capacity() const { return static_cast<std::int32_t>(slots_.size()); }
  std::int32_t free_slots() const {
    return static_cast<std::int32_t>(free_memory_.size() + free_disk_.size());
  }
  std::int32_t free_memory_slots() const { return static_cast<std::int32_t>(free_memory_.size()); }
  bool on_disk(std::int32_t slot) const { return slot >= memory_slots_; }
  std::int32_t references(std::int32_t slot) const {
    return slots_.at(static_cast<std::size_t>(slot)).references;
  }

  /// Those of these blocks that need a slot of their own: a slot holds the others already.
  std::int32_t unsaved(std::span<const std::int32_t> blocks) const;
  /// Appends a slot for each block to `out`, memory before disk, and the moves that fill the new ones to
  /// `moves`; or does nothing and returns false. The first `full` blocks are full: what they hold does not
  /// change until overwritten() is told.
  bool save(std::span<const std::int32_t> blocks, std::size_t full, std::vector<std::int32_t>& out,
            std::vector<block_move>& moves);
  /// The block is about to hold something else.
  void overwritten(std::int32_t block);
  /// One holder less of each; the last one frees the slot.
  void release_all(std::vector<std::int32_t>& slots);

  /// Throws std::logic_error when a slot is both free and held, or counted twice.
  void check_integrity() const;

 private:
  struct slot {
    std::int32_t references = 0;
    std::int32_t block = -1;  // a full block that holds the same; -1: none known
  };

  std::int32_t memory_slots_;
  std::vector<slot> slots_;
  std::vector<std::int32_t> free_memory_;  // stacks
  std::vector<std::int32_t> free_disk_;
  std::unordered_map<std::int32_t, std::int32_t> slot_of_;  // by block
};

}  // namespace fastserve::scheduler
