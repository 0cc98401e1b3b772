#include "model/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "model/content_hash.hpp"

namespace fastserve::model {
namespace {

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

[[noreturn]] void fail(const std::filesystem::path& file, const char* what, int error) {
  throw std::runtime_error(file.string() + ": " + what + ": " + std::strerror(error));
}

constexpr int populate_read = 22;  // MADV_POPULATE_READ, which older headers lack
constexpr std::size_t sampled_bytes = 4096;

/// The pages that the part touches, or with `inside` those wholly in it. The system's error number, or 0.
int advise(std::span<const std::byte> part, int advice, bool inside) {
  const auto page = page_bytes();
  auto begin = reinterpret_cast<std::uintptr_t>(part.data());
  auto end = begin + part.size();
  begin = inside ? (begin + page - 1) / page * page : begin / page * page;
  if (inside) end = end / page * page;
  if (begin >= end) return 0;
  return ::madvise(reinterpret_cast<void*>(begin), end - begin, advice) == 0 ? 0 : errno;
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
  modified_ns_ = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  path_ = file;
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
    : data_{std::exchange(other.data_, nullptr)},
      size_{std::exchange(other.size_, 0)},
      modified_ns_{other.modified_ns_},
      path_{std::move(other.path_)} {}

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(modified_ns_, other.modified_ns_);
  std::swap(path_, other.path_);
  return *this;
}

mapped_file::~mapped_file() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

int mapped_file::fetch(std::span<const std::byte> part) {
  // First the whole piece is asked of the device, then its pages are waited for and mapped.
  if (const int error = advise(part, MADV_WILLNEED, false); error == EFAULT) return error;
  for (;;) {
    const int error = advise(part, populate_read, false);
    if (error == 0 || error == EFAULT || error == EIO) return error;
    if (error == EINTR || error == EAGAIN) continue;
    // a kernel before 5.14: pages come with the first byte read of each
    for (std::size_t i = 0; i < part.size(); i += page_bytes())
      static_cast<void>(*static_cast<const volatile std::byte*>(part.data() + i));
    return 0;
  }
}

void mapped_file::dont_need(std::span<const std::byte> part) const { advise(part, MADV_DONTNEED, true); }

std::string fingerprint_of(const file_part& part) {
  const auto sample = part.bytes.first(std::min(part.bytes.size(), sampled_bytes));
  return std::to_string(part.file->bytes().size()) + " bytes of " + std::to_string(part.file->modified_ns()) +
         ", " + std::to_string(part.bytes.size()) + " at " + std::to_string(part.offset()) + " from " +
         hash_text(content_hash(sample));
}

}  // namespace fastserve::model
