#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/backend.hpp"

namespace fastserve::actors {

/// A rank's room for blocks outside of its KV store: `memory_slots` in host memory, numbered from 0, then
/// `disk_slots` in a file of a node-local folder. The file has no name: nothing stays behind, however the
/// rank ends. Which slot holds what is the scheduler's business (scheduler/swap_pool.hpp).
class swap_store {
 public:
  /// Takes the memory, of the kind that `by` copies blocks to fastest, and the disk space, all of it. Throws
  /// std::runtime_error with one line: no memory, no such folder, no space. `kept`: an earlier store's
  /// memory, for this one where it is enough, because a GPU's host memory takes a while to make.
  swap_store(kernels::backend& by, std::size_t slot_bytes, std::int32_t memory_slots, std::int32_t disk_slots,
             const std::string& folder, kernels::buffer kept = {});
  swap_store(const swap_store&) = delete;
  swap_store& operator=(const swap_store&) = delete;
  ~swap_store();

  /// The memory, for the store that takes this one's place; nothing else may be asked of this one then.
  kernels::buffer take_memory() { return std::move(memory_); }

  /// The slot's memory; null for one on disk, which read() and write() are for.
  std::byte* memory(std::int32_t slot) const;
  /// Throw std::runtime_error naming the folder and the system's reason.
  void write(std::int32_t slot, const std::byte* from);
  void read(std::int32_t slot, std::byte* to);

 private:
  void open(std::int32_t slots, const std::string& folder);

  std::size_t slot_bytes_;
  std::int32_t memory_slots_;
  kernels::buffer memory_;
  std::string folder_;
  int file_ = -1;
};

}  // namespace fastserve::actors
