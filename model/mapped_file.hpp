#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace fastserve::model {

/// A file mapped read-only, page by page on demand. A file that another process shortens while it is mapped
/// raises SIGBUS on access, as with every mapping.
class mapped_file {
 public:
  /// Throws std::runtime_error naming the file.
  explicit mapped_file(const std::filesystem::path& file);
  mapped_file(mapped_file&& other) noexcept;
  mapped_file& operator=(mapped_file&& other) noexcept;
  ~mapped_file();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  /// When its content was last changed, in nanoseconds of the system's clock.
  std::int64_t modified_ns() const { return modified_ns_; }

  /// Reads a part of the file into memory and maps it; done when the call returns. 0, or the system's error
  /// number: EFAULT where the file has become shorter or cannot be read.
  static int fetch(std::span<const std::byte> part);
  /// Gives back the memory of the pages wholly inside the part. A later access reads them again.
  void dont_need(std::span<const std::byte> part) const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::int64_t modified_ns_ = 0;
  std::filesystem::path path_;
};

/// Where some of a mapped file's bytes lie.
struct file_part {
  const mapped_file* file = nullptr;
  std::span<const std::byte> bytes;

  std::size_t offset() const { return static_cast<std::size_t>(bytes.data() - file->bytes().data()); }
};

/// Text that differs where the bytes do, as far as the file's size and time and a sample of the bytes can
/// tell.
std::string fingerprint_of(const file_part& part);

}  // namespace fastserve::model
