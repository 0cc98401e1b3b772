#include "model/pack_cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "model/content_hash.hpp"

namespace fastserve::model {
namespace {

namespace fs = std::filesystem;

constexpr auto packed_suffix = ".packed";
constexpr auto unfinished_suffix = ".unfinished";
constexpr std::chrono::hours leftover_age{1};  // since the last byte was written to it

class descriptor {
 public:
  descriptor(const fs::path& file, int flags) : fd_{::open(file.c_str(), flags | O_CLOEXEC, 0644)} {}
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  /// Closes; false where what was written did not reach the file (a quota over NFS).
  bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

bool read_at(int fd, std::span<std::byte> to, std::uint64_t at) {
  while (!to.empty()) {
    const auto got = ::pread(fd, to.data(), to.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to = to.subspan(static_cast<std::size_t>(got));
    at += static_cast<std::uint64_t>(got);
  }
  return true;
}

bool write_all_of(int fd, std::span<const std::byte> from) {
  while (!from.empty()) {
    const auto put = ::write(fd, from.data(), from.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    from = from.subspan(static_cast<std::size_t>(put));
  }
  return true;
}

/// Not another one's: process numbers and even names of hosts repeat on a cluster.
std::string unique_text() {
  std::random_device random;
  return hash_text(std::uint64_t{random()} << 32U | random());
}

}  // namespace

pack_cache::pack_cache(fs::path folder, std::function<void(const std::string&)> notice)
    : folder_{std::move(folder)}, notice_{std::move(notice)} {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    complain(folder_.string() + " cannot be made: " + error.message() + "; weights are not kept");
    broken_ = true;
    return;
  }
  remove_leftovers();
}

pack_cache::~pack_cache() {
  {
    const std::lock_guard lock{mutex_};
    stopped_ = true;
  }
  changed_.notify_all();
  if (writer_.joinable()) writer_.join();
}

void pack_cache::complain(const std::string& text) {
  if (notice_) notice_("pack cache: " + text);
}

/// Of jobs that were killed.
void pack_cache::remove_leftovers() {
  std::error_code error;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != unfinished_suffix) continue;
    std::error_code gone;
    const auto written = fs::last_write_time(it->path(), gone);
    if (!gone && fs::file_time_type::clock::now() - written > leftover_age) fs::remove(it->path(), gone);
  }
}

fs::path pack_cache::file_of(const std::string& key) const {
  return folder_ / (hash_text(content_hash(key)) + hash_text(content_hash(key + '\n')) + packed_suffix);
}

std::optional<pack_cache::found> pack_cache::find(const std::string& key) {
  const auto file = file_of(key);
  // O_NONBLOCK: a named pipe must not hang us before fstat tells what it is
  const descriptor fd(file, O_RDONLY | O_NONBLOCK);
  if (!fd && errno == ENOENT) return std::nullopt;
  try {
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0) throw std::runtime_error(std::strerror(errno));
    if (!S_ISREG(status.st_mode)) throw std::runtime_error("not a regular file");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    std::vector<std::byte> head(std::min<std::uint64_t>(size, pack_fixed_bytes));
    if (!read_at(fd.get(), head, 0)) throw std::runtime_error("cannot be read");
    head.resize(pack_head_bytes(head, size));
    if (!read_at(fd.get(), head, 0)) throw std::runtime_error("cannot be read");
    found out{file, parse_pack_header(head, size)};
    if (out.header.key != key) throw std::runtime_error("is of another weight");
    return out;
  } catch (const std::exception& e) {
    complain(file.string() + ": " + e.what() + "; packing anew");
    const std::lock_guard lock{mutex_};
    ++counts_.damaged_files;
    return std::nullopt;
  }
}

bool pack_cache::read(const found& what, std::span<std::byte> to, kernels::backend& on) {
  const auto& header = what.header;
  std::string wrong;
  const descriptor fd(what.file, O_RDONLY | O_NONBLOCK);
  if (!fd) {
    wrong = std::strerror(errno);
  } else if (to.size() != header.payload_bytes) {
    wrong = std::to_string(header.payload_bytes) + " bytes, expected " + std::to_string(to.size());
  } else {
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    std::atomic<std::int64_t> bad{-1};
    on.each_on_host(static_cast<std::int64_t>(header.hashes.size()), [&](std::int64_t i, int) {
      const auto at = static_cast<std::size_t>(i) * pack_part_bytes;
      const auto part = to.subspan(at, std::min(pack_part_bytes, to.size() - at));
      if (!read_at(fd.get(), part, header.payload_begin + at) ||
          content_hash(part) != header.hashes[static_cast<std::size_t>(i)])
        bad = i;
    });
    if (bad >= 0) wrong = "part " + std::to_string(bad) + " is damaged";
  }
  const std::lock_guard lock{mutex_};
  if (wrong.empty()) {
    ++counts_.read_files;
    counts_.read_bytes += to.size();
    return true;
  }
  ++counts_.damaged_files;
  complain(what.file.string() + ": " + wrong + "; packing anew");
  return false;
}

void pack_cache::keep(std::string key, std::shared_ptr<const kernels::weight> what) {
  if (what->storage().empty()) return;
  const std::lock_guard lock{mutex_};
  if (broken_) return;
  waiting_.push_back({std::move(key), std::move(what)});
  if (!writer_.joinable()) writer_ = std::thread([this] { write_all(); });
  changed_.notify_all();
}

void pack_cache::flush() {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] { return waiting_.empty() && !writing_; });
}

pack_cache::counts pack_cache::total() {
  const std::lock_guard lock{mutex_};
  return counts_;
}

void pack_cache::write_all() {
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [&] { return stopped_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    auto next = std::move(waiting_.front());
    waiting_.pop_front();
    writing_ = true;
    lock.unlock();
    std::string wrong;
    try {
      write(next);
    } catch (const std::exception& e) {
      wrong = e.what();
    }
    const auto bytes = next.what->storage().size();
    next = {};
    lock.lock();
    writing_ = false;
    if (wrong.empty()) {
      ++counts_.written_files;
      counts_.written_bytes += bytes;
    } else {
      // the disk is full, or the folder not ours: so it will be for the next one
      broken_ = true;
      waiting_.clear();
      complain(wrong + "; no more weights are kept");
    }
    changed_.notify_all();
  }
}

void pack_cache::write(const order& what) {
  const auto file = file_of(what.key);
  auto unfinished = file;
  unfinished += "." + unique_text() + unfinished_suffix;
  const auto fail = [&](const char* action) {
    const int error = errno;
    ::unlink(unfinished.c_str());
    throw std::runtime_error(unfinished.string() + ": cannot be " + action + ": " + std::strerror(error));
  };
  const auto payload = what.what->storage();
  const auto head = write_pack_header(what.key, payload);
  descriptor fd(unfinished, O_WRONLY | O_CREAT | O_EXCL);
  if (!fd) fail("made");
  // Says at once that a disk is full; where a file system cannot, writing will.
  const int full = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(head.size() + payload.size()));
  if (full == ENOSPC || full == EDQUOT || full == EFBIG) {
    errno = full;
    fail("written");
  }
  if (!write_all_of(fd.get(), head) || !write_all_of(fd.get(), payload)) fail("written");
  // No fsync: what a crash of the machine tears, the checksums find.
  if (!fd.close()) fail("written");
  if (::rename(unfinished.c_str(), file.c_str()) != 0) fail("renamed");
}

}  // namespace fastserve::model
