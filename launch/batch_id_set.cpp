#include "launch/batch_id_set.hpp"

#include <cstring>
#include <utility>

namespace fastserve::launch {

namespace {

constexpr std::size_t least_slots = 1024;

// MurmurHash3's finaliser (Appleby, public domain).
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

}  // namespace

id_digest digest_of(std::string_view id) {
  id_digest out{mix(id.size() + 0x9e3779b97f4a7c15ULL), mix(id.size() + 0xd1b54a32d192ed03ULL)};
  for (std::size_t at = 0; at < id.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, id.data() + at, std::min(id.size() - at, sizeof word));
    out.low = mix(out.low ^ word) + 0x9e3779b97f4a7c15ULL;
    out.high = mix(out.high + word * 0xd1b54a32d192ed03ULL) ^ out.low;
  }
  if (out == id_digest{}) out.low = 1;  // zero marks an empty slot
  return out;
}

std::size_t batch_id_set::slot_of(id_digest id) const {
  auto at = static_cast<std::size_t>(id.low) & (slots_.size() - 1);
  while (slots_[at] != id_digest{} && slots_[at] != id) at = (at + 1) & (slots_.size() - 1);
  return at;
}

bool batch_id_set::contains(id_digest id) const { return !slots_.empty() && slots_[slot_of(id)] == id; }

bool batch_id_set::add(id_digest id) {
  if (contains(id)) return false;
  if (full()) return true;
  if (3 * (size_ + 1) > 2 * slots_.size()) grow();
  slots_[slot_of(id)] = id;
  ++size_;
  return true;
}

void batch_id_set::grow() {
  const auto before =
      std::exchange(slots_, std::vector<id_digest>(slots_.empty() ? least_slots : 2 * slots_.size()));
  for (const auto& id : before)
    if (id != id_digest{}) slots_[slot_of(id)] = id;
}

batch_ids::verdict batch_ids::claim(std::string& id, std::uint64_t line) {
  if (known_.add(digest_of(id))) return verdict::first;
  const auto derived = derived_id(line);
  const auto what = id == derived ? verdict::first : verdict::repeated;
  id = derived;
  while (!known_.add(digest_of(id))) id += '+';
  return what;
}

std::string derived_id(std::uint64_t line) { return "line-" + std::to_string(line); }

}  // namespace fastserve::launch
