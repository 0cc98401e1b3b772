#include "model/tokenizer/string_table.hpp"

#include <algorithm>
#include <cstring>

namespace fastserve::model {

namespace {

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t load(const char* from, std::size_t size) {
  std::uint64_t word = 0;
  std::memcpy(&word, from, size);
  return word;
}

}  // namespace

std::uint64_t hash_bytes(std::string_view bytes) {
  constexpr std::uint64_t odd_1 = 0x9E3779B97F4A7C15u;
  constexpr std::uint64_t odd_2 = 0xD6E8FEB86659FD93u;
  std::uint64_t hash = bytes.size() * odd_1;
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) hash = mix(hash ^ load(at, 8), odd_2);
  if (left > 0) hash = mix(hash ^ load(at, left), odd_1);
  return mix(hash ^ odd_2, odd_1);
}

bool string_table::insert(std::string_view key, std::int32_t value) {
  if ((keys_.size() + 1) * 2 > slots_.size()) grow();
  const auto hash = static_cast<std::uint32_t>(hash_bytes(key));
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  for (; slots_[at].key != 0; at = (at + 1) & mask) {
    if (slots_[at].hash == hash && keys_[slots_[at].key - 1] == key) return false;
  }
  keys_.push_back(key);
  slots_[at] = {hash, static_cast<std::uint32_t>(keys_.size()), value};
  longest_bytes_ = std::max(longest_bytes_, key.size());
  return true;
}

std::int32_t string_table::find(std::string_view key) const {
  if (slots_.empty() || key.size() > longest_bytes_) return none;
  const auto hash = static_cast<std::uint32_t>(hash_bytes(key));
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask; slots_[at].key != 0; at = (at + 1) & mask) {
    if (slots_[at].hash == hash && keys_[slots_[at].key - 1] == key) return slots_[at].value;
  }
  return none;
}

void string_table::grow() {
  std::vector<slot> old = std::move(slots_);
  slots_.assign(std::max<std::size_t>(64, old.size() * 2), slot{});
  const std::size_t mask = slots_.size() - 1;
  for (const slot& entry : old) {
    if (entry.key == 0) continue;
    std::size_t at = entry.hash & mask;
    while (slots_[at].key != 0) at = (at + 1) & mask;
    slots_[at] = entry;
  }
}

}  // namespace fastserve::model
