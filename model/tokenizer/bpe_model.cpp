#include "model/tokenizer/bpe_model.hpp"

#include <span>

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

void bpe_model::index_bytes() {
  for (int byte = 0; byte < 256; ++byte) {
    const bool usable = options_.byte_level || byte < 0x80;
    const char character = static_cast<char>(byte);
    start_of_byte_[static_cast<std::size_t>(byte)] = usable ? words_.find({&character, 1}) : no_symbol;
  }
}

void bpe_model::encode(std::string_view word, encode_scratch& scratch, std::vector<token_id>& out) const {
  if (word.empty()) return;
  if (!cuts_) {
    encode_part(word, scratch, out);
    return;
  }
  if (options_.ignore_merges) {
    const std::int32_t whole = words_.find(word);
    if (whole != string_table::none) {
      out.push_back(whole);
      return;
    }
  }
  std::size_t start = 0;
  utf8::character before = utf8::at(word, 0);
  for (std::size_t at = before.size; at < word.size();) {
    const utf8::character next = utf8::at(word, at);
    if (!junctions_.may_join(before.code, next.code)) {
      encode_part(word.substr(start, at - start), scratch, out);
      start = at;
    }
    before = next;
    at += next.size;
  }
  encode_part(word.substr(start), scratch, out);
}

void bpe_model::encode_part(std::string_view part, encode_scratch& scratch,
                            std::vector<token_id>& out) const {
  const bool cacheable = part.size() <= word_cache::longest_word_bytes;
  std::uint64_t hash = 0;
  if (cacheable) {
    hash = hash_bytes(part);
    const std::span<const token_id> known = scratch.cache.find(part, hash);
    if (!known.empty()) {
      out.insert(out.end(), known.begin(), known.end());
      return;
    }
  }
  const std::size_t first = out.size();
  const std::int32_t whole = options_.ignore_merges && !cuts_ ? words_.find(part) : string_table::none;
  if (whole != string_table::none) {
    out.push_back(whole);
  } else {
    scratch.symbols.clear();
    if (options_.byte_level) {
      start_bytes(part, scratch.symbols);
    } else {
      start_characters(part, scratch.symbols);
    }
    merge_symbols(merges_, scratch.symbols, scratch.merges);
    emit(scratch.symbols, out);
  }
  if (cacheable) scratch.cache.insert(part, hash, std::span(out).subspan(first));
}

void bpe_model::start_bytes(std::string_view part, std::vector<symbol_id>& symbols) const {
  bool unknown = false;  // an unknown token waits: it may grow when fused
  for (const char byte : part) {
    const symbol_id symbol = start_of_byte_[static_cast<unsigned char>(byte)];
    if (symbol != no_symbol) {
      if (unknown) symbols.push_back(*options_.unk);
      unknown = false;
      symbols.push_back(symbol);
    } else if (options_.unk) {
      if (unknown && !options_.fuse_unk) symbols.push_back(*options_.unk);
      unknown = true;
    }
  }
  if (unknown) symbols.push_back(*options_.unk);
}

void bpe_model::start_characters(std::string_view part, std::vector<symbol_id>& symbols) const {
  bool unknown = false;
  for (std::size_t at = 0; at < part.size();) {
    const std::string_view character = part.substr(at, utf8::length(part[at]));
    at += character.size();
    const symbol_id symbol = character.size() == 1 ? start_of_byte_[static_cast<unsigned char>(character[0])]
                                                   : words_.find(character);
    if (symbol != no_symbol) {
      if (unknown) symbols.push_back(*options_.unk);
      unknown = false;
      symbols.push_back(symbol);
      continue;
    }
    // Bytes do not let a waiting unknown token out: an oddity of the reference library that is kept.
    if (options_.byte_fallback && start_fallback(character, symbols)) continue;
    if (!options_.unk) continue;
    if (unknown && !options_.fuse_unk) symbols.push_back(*options_.unk);
    unknown = true;
  }
  if (unknown) symbols.push_back(*options_.unk);
}

// All bytes of a character, or none.
bool bpe_model::start_fallback(std::string_view character, std::vector<symbol_id>& symbols) const {
  if (!all_fallback_) {
    for (const char byte : character) {
      if (fallback_[static_cast<unsigned char>(byte)] == no_symbol) return false;
    }
  }
  for (const char byte : character) symbols.push_back(fallback_[static_cast<unsigned char>(byte)]);
  return true;
}

void bpe_model::emit(const std::vector<symbol_id>& symbols, std::vector<token_id>& out) const {
  if (loose_.empty()) {
    out.insert(out.end(), symbols.begin(), symbols.end());
    return;
  }
  for (const symbol_id symbol : symbols) {
    if (symbol < first_loose_) {
      out.push_back(symbol);
    } else {
      for (const char byte : loose_[static_cast<std::size_t>(symbol - first_loose_)]) {
        out.push_back(fallback_[static_cast<unsigned char>(byte)]);
      }
    }
  }
}

}  // namespace fastserve::model
