#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

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

  /// Starts reading a part of the file in the background.
  void will_need(std::span<const std::byte> part) const;
  /// Gives back the memory of the pages wholly inside the part. A later access reads them again.
  void dont_need(std::span<const std::byte> part) const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace fastserve::model
