#include "model/tokenizer/wordpiece_model.hpp"

#include <algorithm>
#include <span>

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

wordpiece_model::wordpiece_model(const vocabulary& tokens, token_id unk, std::string_view prefix,
                                 std::size_t max_word_characters)
    : unk_(unk), max_word_characters_(max_word_characters) {
  for (token_id id = 0; id < tokens.size(); ++id) {
    const std::string* token = tokens.token_of(id);
    if (token == nullptr) continue;
    first_.insert(*token, id);
    if (token->starts_with(prefix)) following_.insert(std::string_view(*token).substr(prefix.size()), id);
  }
}

void wordpiece_model::encode(std::string_view word, encode_scratch& scratch,
                             std::vector<token_id>& out) const {
  if (word.empty()) return;
  const bool cacheable = word.size() <= word_cache::longest_word_bytes;
  const std::uint64_t hash = cacheable ? hash_bytes(word) : 0;
  if (cacheable) {
    const std::span<const token_id> known = scratch.cache.find(word, hash);
    if (!known.empty()) {
      out.insert(out.end(), known.begin(), known.end());
      return;
    }
  }
  const std::size_t first = out.size();
  const auto characters = static_cast<std::size_t>(std::count_if(word.begin(), word.end(), utf8::is_lead));
  if (characters > max_word_characters_ || !cut(word, out)) {
    out.resize(first);
    out.push_back(unk_);
  }
  if (cacheable) scratch.cache.insert(word, hash, std::span(out).subspan(first));
}

bool wordpiece_model::cut(std::string_view word, std::vector<token_id>& out) const {
  for (std::size_t start = 0; start < word.size();) {
    const string_table& table = start == 0 ? first_ : following_;
    std::size_t size = std::min(word.size() - start, table.longest_bytes());
    token_id found = string_table::none;
    for (; size > 0; --size) {
      if (start + size < word.size() && !utf8::is_lead(word[start + size])) continue;
      found = table.find(word.substr(start, size));
      if (found != string_table::none) break;
    }
    if (found == string_table::none) return false;
    out.push_back(found);
    start += size;
  }
  return true;
}

}  // namespace fastserve::model
