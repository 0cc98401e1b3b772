#include "model/pack_file.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "model/content_hash.hpp"

namespace fastserve::model {
namespace {

constexpr std::string_view magic = "FSPACK01";
constexpr std::size_t hash_at = 24;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

template <class T>
T number(std::span<const std::byte> bytes, std::size_t at) {
  T out;
  std::memcpy(&out, bytes.data() + at, sizeof out);
  return out;
}

template <class T>
void put(std::vector<std::byte>& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

/// Of the head with its own hash taken for zero.
std::uint64_t hash_of_head(std::span<const std::byte> head) {
  std::vector<std::byte> copy(head.begin(), head.end());
  put(copy, hash_at, std::uint64_t{0});
  return content_hash(copy);
}

std::uint64_t padded(std::uint64_t bytes) {
  return (bytes + pack_alignment - 1) / pack_alignment * pack_alignment;
}

}  // namespace

std::size_t pack_head_bytes(std::span<const std::byte> fixed, std::uint64_t file_bytes) {
  if (fixed.size() < pack_fixed_bytes) fail("too short for a packed weight");
  if (std::memcmp(fixed.data(), magic.data(), magic.size()) != 0) fail("no packed weight of this version");
  const auto payload = number<std::uint64_t>(fixed, 8);
  const auto key = number<std::uint32_t>(fixed, 16);
  const auto parts = number<std::uint32_t>(fixed, 20);
  if (key > most_key_bytes) fail("a key of " + std::to_string(key) + " bytes");
  if (payload > file_bytes || pack_parts(payload) != parts)
    fail(std::to_string(parts) + " parts for " + std::to_string(payload) + " bytes in a file of " +
         std::to_string(file_bytes));
  const auto head = pack_fixed_bytes + key + std::uint64_t{parts} * sizeof(std::uint64_t);
  if (padded(head) + payload != file_bytes)
    fail("a file of " + std::to_string(file_bytes) + " bytes, expected " +
         std::to_string(padded(head) + payload));
  return static_cast<std::size_t>(head);
}

pack_header parse_pack_header(std::span<const std::byte> head, std::uint64_t file_bytes) {
  const auto bytes = pack_head_bytes(head.first(std::min(head.size(), pack_fixed_bytes)), file_bytes);
  if (head.size() != bytes) fail("cut off in its head");
  if (number<std::uint64_t>(head, hash_at) != hash_of_head(head)) fail("a wrong checksum of its head");
  pack_header out;
  out.payload_bytes = number<std::uint64_t>(head, 8);
  out.payload_begin = padded(bytes);
  const auto key = number<std::uint32_t>(head, 16);
  out.key.assign(reinterpret_cast<const char*>(head.data()) + pack_fixed_bytes, key);
  out.hashes.resize(static_cast<std::size_t>(pack_parts(out.payload_bytes)));
  if (!out.hashes.empty())
    std::memcpy(out.hashes.data(), head.data() + pack_fixed_bytes + key,
                out.hashes.size() * sizeof(std::uint64_t));
  return out;
}

std::vector<std::byte> write_pack_header(std::string_view key, std::span<const std::byte> payload) {
  if (key.size() > most_key_bytes) fail("a key of " + std::to_string(key.size()) + " bytes");
  const auto parts = static_cast<std::size_t>(pack_parts(payload.size()));
  std::vector<std::byte> out(pack_fixed_bytes + key.size() + parts * sizeof(std::uint64_t));
  std::memcpy(out.data(), magic.data(), magic.size());
  put(out, 8, std::uint64_t{payload.size()});
  put(out, 16, static_cast<std::uint32_t>(key.size()));
  put(out, 20, static_cast<std::uint32_t>(parts));
  std::memcpy(out.data() + pack_fixed_bytes, key.data(), key.size());
  for (std::size_t i = 0; i < parts; ++i) {
    const auto at = i * pack_part_bytes;
    put(out, pack_fixed_bytes + key.size() + i * sizeof(std::uint64_t),
        content_hash(payload.subspan(at, std::min(pack_part_bytes, payload.size() - at))));
  }
  put(out, hash_at, hash_of_head(out));
  out.resize(static_cast<std::size_t>(padded(out.size())));
  return out;
}

}  // namespace fastserve::model
