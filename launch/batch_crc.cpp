#include "launch/batch_crc.hpp"

#include <array>
#include <bit>
#include <cstring>

namespace fastserve::launch {

namespace {

constexpr std::uint32_t polynomial = 0x82F63B78U;  // reflected

using table = std::array<std::uint32_t, 256>;

// tables[k][b]: the byte b followed by k zero bytes, so that eight bytes go in one step.
constexpr std::array<table, 8> make_tables() {
  std::array<table, 8> out{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1U) ^ ((value & 1U) != 0 ? polynomial : 0U);
    out[0][byte] = value;
  }
  for (std::size_t byte = 0; byte < 256; ++byte)
    for (std::size_t k = 1; k < 8; ++k)
      out[k][byte] = (out[k - 1][byte] >> 8U) ^ out[0][out[k - 1][byte] & 0xFFU];
  return out;
}

constexpr auto tables = make_tables();
static_assert(std::endian::native == std::endian::little);

}  // namespace

std::uint32_t crc32c(std::string_view bytes, std::uint32_t before) noexcept {
  std::uint32_t crc = ~before;
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, 8);
    word ^= crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= tables[7 - k][(word >> (8 * k)) & 0xFFU];
  }
  for (; left > 0; ++at, --left)
    crc = (crc >> 8U) ^ tables[0][(crc ^ static_cast<unsigned char>(*at)) & 0xFFU];
  return ~crc;
}

}  // namespace fastserve::launch
