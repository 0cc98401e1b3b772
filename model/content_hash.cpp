#include "model/content_hash.hpp"

#include <bit>
#include <cstdio>
#include <cstring>

namespace fastserve::model {
namespace {

constexpr std::uint64_t prime1 = 0x9E3779B185EBCA87U;
constexpr std::uint64_t prime2 = 0xC2B2AE3D27D4EB4FU;
constexpr std::uint64_t prime3 = 0x165667B19E3779F9U;
constexpr std::uint64_t prime4 = 0x85EBCA77C2B2AE63U;
constexpr std::uint64_t prime5 = 0x27D4EB2F165667C5U;

template <class T>
std::uint64_t number_at(const std::byte* from) {
  T out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

std::uint64_t stirred(std::uint64_t sum, std::uint64_t word) {
  return std::rotl(sum + word * prime2, 31) * prime1;
}

std::uint64_t merged(std::uint64_t hash, std::uint64_t sum) {
  return (hash ^ stirred(0, sum)) * prime1 + prime4;
}

}  // namespace

std::uint64_t content_hash(std::span<const std::byte> bytes) noexcept {
  const auto* at = bytes.data();
  auto left = bytes.size();
  std::uint64_t hash = prime5;
  if (left >= 32) {
    std::uint64_t a = prime1 + prime2;
    std::uint64_t b = prime2;
    std::uint64_t c = 0;
    std::uint64_t d = 0 - prime1;
    for (; left >= 32; at += 32, left -= 32) {
      a = stirred(a, number_at<std::uint64_t>(at));
      b = stirred(b, number_at<std::uint64_t>(at + 8));
      c = stirred(c, number_at<std::uint64_t>(at + 16));
      d = stirred(d, number_at<std::uint64_t>(at + 24));
    }
    hash = std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
    for (const auto sum : {a, b, c, d}) hash = merged(hash, sum);
  }
  hash += bytes.size();
  for (; left >= 8; at += 8, left -= 8)
    hash = std::rotl(hash ^ stirred(0, number_at<std::uint64_t>(at)), 27) * prime1 + prime4;
  if (left >= 4) {
    hash = std::rotl(hash ^ (number_at<std::uint32_t>(at) * prime1), 23) * prime2 + prime3;
    at += 4;
    left -= 4;
  }
  for (; left > 0; ++at, --left) hash = std::rotl(hash ^ (number_at<std::uint8_t>(at) * prime5), 11) * prime1;
  hash = (hash ^ (hash >> 33U)) * prime2;
  hash = (hash ^ (hash >> 29U)) * prime3;
  return hash ^ (hash >> 32U);
}

std::uint64_t content_hash(std::string_view text) noexcept {
  return content_hash(std::as_bytes(std::span(text)));
}

std::string hash_text(std::uint64_t hash) {
  char out[17];
  std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(hash));
  return out;
}

}  // namespace fastserve::model
