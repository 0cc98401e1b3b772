#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::model {

/// The head of a file of the pack cache. All numbers little-endian:
///
///     0   "FSPACK01"
///     8   u64 bytes of payload
///     16  u32 bytes of key; u32 parts of payload, of pack_part_bytes each but the last
///     24  u64 content_hash of what is before and behind this number, up to the payload's padding
///     32  key: text that says what the payload is; then a u64 content_hash for each part
///     ..  zeros up to a multiple of pack_alignment, then the payload, then nothing
struct pack_header {
  std::string key;
  std::uint64_t payload_begin = 0;
  std::uint64_t payload_bytes = 0;
  std::vector<std::uint64_t> hashes;  ///< of each part
};

inline constexpr std::size_t pack_fixed_bytes = 32;
inline constexpr std::size_t pack_part_bytes = std::size_t{4} << 20;
inline constexpr std::size_t pack_alignment = 4096;
inline constexpr std::size_t most_key_bytes = std::size_t{1} << 20;

/// Parts of so many bytes.
constexpr std::uint64_t pack_parts(std::uint64_t payload_bytes) {
  return payload_bytes / pack_part_bytes + (payload_bytes % pack_part_bytes != 0 ? 1 : 0);
}

/// Bytes of the head without its padding, as the first pack_fixed_bytes of a file say. Believes nothing: what
/// does not fit a file of `file_bytes` exactly is refused. Throws std::runtime_error saying what is wrong,
/// without the file's name.
std::size_t pack_head_bytes(std::span<const std::byte> fixed, std::uint64_t file_bytes);

/// The head of a file, given as pack_head_bytes() of it. Throws likewise.
pack_header parse_pack_header(std::span<const std::byte> head, std::uint64_t file_bytes);

/// The head of a file for this payload, padded to where the payload begins.
std::vector<std::byte> write_pack_header(std::string_view key, std::span<const std::byte> payload);

}  // namespace fastserve::model
