#include "launch/stale_segments.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>
#include <system_error>
#include <vector>

namespace fastserve::launch {

namespace {

/// Whether nobody can write to the file any more. False when that cannot be told.
bool abandoned(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return false;
  struct stat about {};
  bool result = ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == ::geteuid();
  if (result) {
    // Who opens the file while the lease lasts would make it send SIGIO, which kills; SIGURG is ignored.
    ::fcntl(fd, F_SETSIG, SIGURG);
    result = ::fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
    if (result) ::fcntl(fd, F_SETLEASE, F_UNLCK);
  }
  ::close(fd);
  return result;
}

}  // namespace

std::size_t remove_stale_segments(const std::filesystem::path& folder) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return 0;
  const auto owner = "." + std::string{host.data()} + "." + std::to_string(::geteuid()) + ".";
  const auto starts = {"vader_segment" + owner, "sm_segment" + owner};
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (std::filesystem::directory_iterator at{folder, error}, end; !error && at != end; at.increment(error)) {
    const auto name = at->path().filename().string();
    for (const auto& start : starts)
      if (name.compare(0, start.size(), start) == 0) found.push_back(at->path());
  }
  std::size_t removed = 0;
  for (const auto& file : found)
    if (abandoned(file) && ::unlink(file.c_str()) == 0) ++removed;
  return removed;
}

}  // namespace fastserve::launch
