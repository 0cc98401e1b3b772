#include "model/tokenizer/word_cache.hpp"

namespace fastserve::model {

std::span<const token_id> word_cache::find(std::string_view word, std::uint64_t hash) const {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask; slots_[at].ids != 0; at = (at + 1) & mask) {
    const slot& entry = slots_[at];
    if (entry.hash == hash && std::string_view(words_).substr(entry.word_at, entry.word_bytes) == word) {
      return {ids_.data() + entry.ids_at, entry.ids};
    }
  }
  return {};
}

void word_cache::insert(std::string_view word, std::uint64_t hash, std::span<const token_id> ids) {
  if (ids.empty() || word.size() > longest_word_bytes || ids.size() > 0xFFFF) return;
  if (used_ * 2 >= slots_.size()) make_room();
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  while (slots_[at].ids != 0) at = (at + 1) & mask;
  slots_[at] = {hash, static_cast<std::uint32_t>(words_.size()), static_cast<std::uint32_t>(ids_.size()),
                static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(ids.size())};
  words_.append(word);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

void word_cache::make_room() {
  if (slots_.size() == last_slots) {
    slots_.assign(last_slots, slot{});
    words_.clear();
    ids_.clear();
    used_ = 0;
    return;
  }
  std::vector<slot> old(slots_.size() * 2);
  old.swap(slots_);
  const std::size_t mask = slots_.size() - 1;
  for (const slot& entry : old) {
    if (entry.ids == 0) continue;
    std::size_t at = entry.hash & mask;
    while (slots_[at].ids != 0) at = (at + 1) & mask;
    slots_[at] = entry;
  }
}

}  // namespace fastserve::model
