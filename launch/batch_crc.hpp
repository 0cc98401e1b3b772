#pragma once

#include <cstdint>
#include <string_view>

namespace fastserve::launch {

/// CRC-32C (Castagnoli; RFC 3720, section 12.1) of `bytes`, going on from `before`. crc32c("123456789") is
/// 0xE3069283.
std::uint32_t crc32c(std::string_view bytes, std::uint32_t before = 0) noexcept;

}  // namespace fastserve::launch
