#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fastserve::model {

/// XXH64 (Collet: xxHash, fast digest algorithm, specification 0.1.1), seed 0: as fast as memory is read, and
/// changed by any damage that is not made to deceive. content_hash("abc") is 0x44BC2CF5AD770999.
std::uint64_t content_hash(std::span<const std::byte> bytes) noexcept;
std::uint64_t content_hash(std::string_view text) noexcept;

/// Sixteen hexadecimal digits.
std::string hash_text(std::uint64_t hash);

}  // namespace fastserve::model
