#include "model/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace fastserve::model {
namespace {

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

[[noreturn]] void fail(const std::filesystem::path& file, const char* what, int error) {
  throw std::runtime_error(file.string() + ": " + what + ": " + std::strerror(error));
}

/// The pages that the part touches, or with `inside` those wholly in it. Advice is only advice: errors are
/// ignored.
void advise(std::span<const std::byte> part, int advice, bool inside) {
  const auto page = page_bytes();
  auto begin = reinterpret_cast<std::uintptr_t>(part.data());
  auto end = begin + part.size();
  begin = inside ? (begin + page - 1) / page * page : begin / page * page;
  if (inside) end = end / page * page;
  if (begin >= end) return;
  ::madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace

mapped_file::mapped_file(const std::filesystem::path& file) {
  // O_NONBLOCK: a named pipe must not hang us before fstat tells what it is
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(file, "cannot be opened", errno);
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    throw std::runtime_error(file.string() + ": not a regular file");
  }
  size_ = static_cast<std::size_t>(status.st_size);
  void* data = nullptr;
  if (size_ > 0) {
    data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      fail(file, "cannot be mapped", error);
    }
  }
  ::close(fd);
  data_ = static_cast<const std::byte*>(data);
}

mapped_file::mapped_file(mapped_file&& other) noexcept
    : data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)} {}

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

mapped_file::~mapped_file() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void mapped_file::will_need(std::span<const std::byte> part) const { advise(part, MADV_WILLNEED, false); }

void mapped_file::dont_need(std::span<const std::byte> part) const { advise(part, MADV_DONTNEED, true); }

}  // namespace fastserve::model
