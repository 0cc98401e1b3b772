#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace fastserve::actors {

/// A rank's room for blocks outside of its KV store: `memory_slots` in host memory, numbered from 0, then
/// `disk_slots` in a file of a node-local folder. The file has no name: nothing stays behind, however the
/// rank ends. Which slot holds what is the scheduler's business (scheduler/swap_pool.hpp).
class swap_store {
 public:
  /// Takes the memory and the disk space, all of it. Throws std::runtime_error with one line: no memory, no
  /// such folder, no space.
  swap_store(std::size_t slot_bytes, std::int32_t memory_slots, std::int32_t disk_slots,
             const std::string& folder);
  swap_store(const swap_store&) = delete;
  swap_store& operator=(const swap_store&) = delete;
  ~swap_store();

  /// The slot's memory; null for one on disk, which read() and write() are for.
  std::byte* memory(std::int32_t slot) const;
  /// Throw std::runtime_error naming the folder and the system's reason.
  void write(std::int32_t slot, const std::byte* from);
  void read(std::int32_t slot, std::byte* to);

 private:
  void open(std::int32_t slots, const std::string& folder);

  std::size_t slot_bytes_;
  std::int32_t memory_slots_;
  std::unique_ptr<std::byte[]> memory_;
  std::string folder_;
  int file_ = -1;
};

}  // namespace fastserve::actors
