#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace fastserve::launch {

/// A file by descriptor, with the calls that a batch needs. Every failure is a std::runtime_error with one
/// line: the file, what was tried, the system's reason.
class batch_file {
 public:
  batch_file() = default;
  /// `flags` as for open(2); O_CLOEXEC is added.
  batch_file(std::filesystem::path path, int flags);
  batch_file(batch_file&& other) noexcept;
  batch_file& operator=(batch_file&& other) noexcept;
  ~batch_file();

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const;

  /// Reads up to `bytes` at `offset`; fewer at the end of the file only.
  std::string read_at(std::uint64_t offset, std::size_t bytes) const;
  void write_at(std::uint64_t offset, std::string_view bytes);
  void truncate(std::uint64_t size);
  /// What was written is on the disk when it returns.
  void sync();
  /// False when another process holds the lock. File systems without locks count as locked.
  bool lock();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  int fd_ = -1;
};

/// Makes a new, renamed or removed entry of `folder` last. File systems that cannot are left alone.
void sync_folder(const std::filesystem::path& folder);

}  // namespace fastserve::launch
