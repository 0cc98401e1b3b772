#include "actors/swap_store.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>

namespace fastserve::actors {

namespace {

[[noreturn]] void fail(const std::string& folder, const std::string& what, int error) {
  throw std::runtime_error("swap file in " + folder + ": " + what + ": " + std::strerror(error));
}

// A file without a name, also where the file system knows no such thing.
int open_nameless(const std::string& folder) {
  const int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return file;
  auto pattern = folder + "/fastserve-swap-XXXXXX";
  const int named = ::mkostemp(pattern.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(pattern.c_str());
  return named;
}

}  // namespace

swap_store::swap_store(kernels::backend& by, std::size_t slot_bytes, std::int32_t memory_slots,
                       std::int32_t disk_slots, const std::string& folder, kernels::buffer kept)
    : slot_bytes_{slot_bytes}, memory_slots_{memory_slots}, folder_{folder} {
  const auto bytes = slot_bytes * static_cast<std::size_t>(memory_slots);
  try {
    if (bytes > 0 && kept.bytes() >= bytes) memory_ = std::move(kept);
    kept = {};
    if (bytes > 0 && memory_.empty()) memory_ = by.allocate_host(bytes);
  } catch (const std::bad_alloc&) {
    throw std::runtime_error("no memory for " + std::to_string(bytes) +
                             " bytes of swapped KV; lower --swap-space");
  }
  if (disk_slots > 0) open(disk_slots, folder);
}

swap_store::~swap_store() {
  if (file_ >= 0) ::close(file_);
}

void swap_store::open(std::int32_t slots, const std::string& folder) {
  file_ = open_nameless(folder);
  if (file_ < 0) fail(folder, "cannot be made", errno);
  const auto bytes = static_cast<off_t>(slot_bytes_) * slots;
  if (const int error = ::posix_fallocate(file_, 0, bytes); error != 0) {
    ::close(file_);
    fail(folder, "no room for " + std::to_string(bytes) + " bytes; lower --swap-disk", error);
  }
}

std::byte* swap_store::memory(std::int32_t slot) const {
  if (slot >= memory_slots_) return nullptr;
  return static_cast<std::byte*>(memory_.data()) + static_cast<std::size_t>(slot) * slot_bytes_;
}

void swap_store::write(std::int32_t slot, const std::byte* from) {
  assert(slot >= memory_slots_);
  auto at = static_cast<off_t>(slot_bytes_) * (slot - memory_slots_);
  for (auto left = slot_bytes_; left > 0;) {
    const auto n = ::pwrite(file_, from, left, at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(folder_, "cannot be written", n < 0 ? errno : ENOSPC);
    from += n;
    at += n;
    left -= static_cast<std::size_t>(n);
  }
}

void swap_store::read(std::int32_t slot, std::byte* to) {
  assert(slot >= memory_slots_);
  auto at = static_cast<off_t>(slot_bytes_) * (slot - memory_slots_);
  for (auto left = slot_bytes_; left > 0;) {
    const auto n = ::pread(file_, to, left, at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(folder_, "cannot be read", n < 0 ? errno : EIO);
    to += n;
    at += n;
    left -= static_cast<std::size_t>(n);
  }
}

}  // namespace fastserve::actors
