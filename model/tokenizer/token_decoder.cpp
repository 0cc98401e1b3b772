#include "model/tokenizer/token_decoder.hpp"

#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "model/tokenizer/byte_alphabet.hpp"

namespace fastserve::model {

namespace {

void replace_all(std::string& text, std::string_view pattern, std::string_view content) {
  if (pattern.empty()) return;
  for (std::size_t at = 0; (at = text.find(pattern, at)) != std::string::npos; at += content.size()) {
    text.replace(at, pattern.size(), content);
  }
}

// The spaces that splitting at punctuation left behind, as the reference library takes them away.
void clean_up(std::string& text) {
  static constexpr std::pair<const char*, const char*> rules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [pattern, content] : rules) replace_all(text, pattern, content);
}

// The byte that "<0xNN>" stands for, or -1.
int fallback_byte(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  const int high = digit(token[3]);
  const int low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

void token_decoder::add(step next) {
  if (fused_) throw std::runtime_error("a decoder after Fuse that is not Strip is not supported");
  steps_.push_back(std::move(next));
}

void token_decoder::byte_level() { add({kind::byte_level, {}, {}}); }
void token_decoder::byte_fallback() { add({kind::byte_fallback, {}, {}}); }
void token_decoder::replace(std::string pattern, std::string content) {
  add({kind::replace, std::move(pattern), std::move(content)});
}
void token_decoder::metaspace(std::string replacement, bool prepended) {
  add({kind::metaspace, std::move(replacement), {}, prepended});
}
void token_decoder::wordpiece(std::string prefix, bool cleanup) {
  add({kind::wordpiece, std::move(prefix), {}, cleanup});
}

void token_decoder::strip(std::string character, std::size_t left, std::size_t right) {
  if (character.size() != 1)
    throw std::runtime_error("a Strip decoder of more than one byte is not supported");
  if (!fused_) {
    add({kind::strip, std::move(character), {}, false, left, right});
    return;
  }
  if (right != 0) throw std::runtime_error("a Strip decoder at the end of the text is not supported");
  leading_character_ = character[0];
  leading_drops_ += left;
}

std::string token_decoder::render(const std::string& token, bool first) const {
  std::string text = token;
  if (steps_.empty() && !fused_) {
    if (!first) text.insert(text.begin(), ' ');
    return text;
  }
  for (const step& next : steps_) {
    switch (next.what) {
      case kind::byte_level:
        if (auto bytes = bytes_of_alphabet(text)) text = std::move(*bytes);
        break;
      case kind::byte_fallback:
        if (const int byte = fallback_byte(text); byte >= 0) return std::string(1, static_cast<char>(byte));
        break;
      case kind::replace:
        replace_all(text, next.pattern, next.content);
        break;
      case kind::metaspace:
        replace_all(text, next.pattern, first && next.flag ? "" : " ");
        break;
      case kind::wordpiece:
        if (!first) {
          if (text.starts_with(next.pattern)) {
            text.erase(0, next.pattern.size());
          } else {
            text.insert(text.begin(), ' ');
          }
        }
        if (next.flag) clean_up(text);
        break;
      case kind::strip:
        for (std::size_t i = 0; i < next.left && text.starts_with(next.pattern); ++i) text.erase(0, 1);
        for (std::size_t i = 0; i < next.right && text.ends_with(next.pattern); ++i) text.pop_back();
        break;
    }
  }
  return text;
}

decode_table token_decoder::build(const vocabulary& tokens, const std::vector<added_token>& added) const {
  std::vector<bool> special(static_cast<std::size_t>(tokens.size()), false);
  for (const added_token& token : added) {
    if (token.special) special[static_cast<std::size_t>(token.id)] = true;
  }
  decode_table table;
  for (token_id id = 0; id < tokens.size(); ++id) {
    const std::string* token = tokens.token_of(id);
    if (token == nullptr) {
      table.push_gap();
    } else {
      table.push_back(render(*token, true), render(*token, false), special[static_cast<std::size_t>(id)]);
    }
  }
  table.set_leading_drops(leading_character_, leading_drops_);
  return table;
}

}  // namespace fastserve::model
