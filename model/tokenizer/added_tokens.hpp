#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "model/tokenizer/token_id.hpp"

namespace fastserve::model {

/// A token found in the text before anything else is done to it. Names as in tokenizer.json.
struct added_token {
  std::string content;
  token_id id = 0;
  bool single_word = false;  ///< only between characters that are not part of a word
  bool lstrip = false;       ///< takes white space on its left along
  bool rstrip = false;       ///< takes white space on its right along
  bool normalized = true;    ///< looked for after normalization instead of before
  bool special = false;      ///< left out of a decode that skips special tokens
};

/// A piece of text: an added token, or what lies between two of them.
struct text_segment {
  std::string_view text;
  std::optional<token_id> id;
};

/// Finds added tokens in text: leftmost first, the longest of those.
class added_token_matcher {
 public:
  /// `patterns[i]` is the text to look for, `tokens[i]` its token. Empty patterns are ignored; the first of
  /// two equal ones wins. Patterns of more than max_token_bytes throw std::runtime_error.
  added_token_matcher(const std::vector<std::string>& patterns, const std::vector<added_token>& tokens);

  static constexpr std::size_t max_token_bytes = 1024;

  bool empty() const { return tokens_.empty(); }

  /// Cuts well-formed text into segments, in order, and appends them. No segment is empty, except that a text
  /// without characters gives none.
  void split(std::string_view text, std::vector<text_segment>& out) const;

 private:
  struct found {
    std::size_t size = 0;
    std::size_t token = 0;
  };
  found match(std::string_view text) const;
  std::uint32_t child(std::uint32_t node, unsigned char byte) const;

  static constexpr std::uint32_t no_node = 0;  // the root is no one's child
  std::vector<added_token> tokens_;
  std::vector<std::int64_t> token_of_node_;
  std::unordered_map<std::uint64_t, std::uint32_t> children_;
  bool starts_[256] = {};
};

}  // namespace fastserve::model
