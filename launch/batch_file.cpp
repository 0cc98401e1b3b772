#include "launch/batch_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace fastserve::launch {

namespace {

// What one call of the system takes at most.
constexpr std::size_t most_bytes_a_call = std::size_t{1} << 30;

}  // namespace

batch_file::batch_file(std::filesystem::path path, int flags) : path_{std::move(path)} {
  do fd_ = ::open(path_.c_str(), flags | O_CLOEXEC, 0666);
  while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) fail("cannot be opened");
}

batch_file::batch_file(batch_file&& other) noexcept
    : path_{std::move(other.path_)}, fd_{std::exchange(other.fd_, -1)} {}

batch_file& batch_file::operator=(batch_file&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

batch_file::~batch_file() {
  if (fd_ >= 0) ::close(fd_);
}

void batch_file::fail(const char* what) const {
  const int reason = errno;
  throw std::runtime_error(path_.string() + ": " + what + ": " + std::strerror(reason));
}

std::uint64_t batch_file::size() const {
  struct stat facts {};
  if (::fstat(fd_, &facts) != 0) fail("its size is unknown");
  return static_cast<std::uint64_t>(facts.st_size);
}

std::string batch_file::read_at(std::uint64_t offset, std::size_t bytes) const {
  std::string out(bytes, '\0');
  std::size_t done = 0;
  while (done < bytes) {
    const auto got = ::pread(fd_, out.data() + done, std::min(bytes - done, most_bytes_a_call),
                             static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot be read");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  out.resize(done);
  return out;
}

void batch_file::write_at(std::uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto put =
        ::pwrite(fd_, bytes.data(), std::min(bytes.size(), most_bytes_a_call), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("cannot be written");
    offset += static_cast<std::uint64_t>(put);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
}

void batch_file::truncate(std::uint64_t size) {
  int result = 0;
  do result = ::ftruncate(fd_, static_cast<off_t>(size));
  while (result != 0 && errno == EINTR);
  if (result != 0) fail("cannot be cut");
}

void batch_file::sync() {
  int result = 0;
  do result = ::fdatasync(fd_);
  while (result != 0 && errno == EINTR);
  // Devices and pipes have nothing to sync.
  if (result != 0 && errno != EINVAL && errno != EROFS) fail("cannot be brought to the disk");
}

bool batch_file::lock() {
  int result = 0;
  do result = ::flock(fd_, LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  return result == 0 || errno != EWOULDBLOCK;
}

void sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

}  // namespace fastserve::launch
