#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "model/tokenizer/string_table.hpp"
#include "model/tokenizer/token_id.hpp"

namespace fastserve::model {

/// The bytes of every token, worked out when a tokenizer is loaded: decoding is their concatenation, less
/// some leading characters, with ill-formed UTF-8 replaced.
class decode_table {
 public:
  /// A token's bytes at the start of a text (`first`) or within. Empty for an id without a token.
  std::string_view piece(token_id id, bool first) const {
    if (!known(id)) return {};
    return first && !first_.empty() ? first_[static_cast<std::size_t>(id)]
                                    : within_[static_cast<std::size_t>(id)];
  }
  bool known(token_id id) const {
    return id >= 0 && id < size() && (flags_[static_cast<std::size_t>(id)] & is_known) != 0;
  }
  bool special(token_id id) const {
    return id >= 0 && id < size() && (flags_[static_cast<std::size_t>(id)] & is_special) != 0;
  }
  std::int32_t size() const { return static_cast<std::int32_t>(flags_.size()); }

  /// Up to this many of this character are dropped at the start of the text.
  std::size_t leading_drops() const { return leading_drops_; }
  char leading_character() const { return leading_character_; }

  /// Appends the next id. `first` and `within` are the token's bytes in those places.
  void push_back(std::string_view first, std::string_view within, bool special);
  /// Appends an id without a token.
  void push_gap();
  void set_leading_drops(char character, std::size_t count) {
    leading_character_ = character;
    leading_drops_ = count;
  }

 private:
  enum flag : std::uint8_t { is_known = 1, is_special = 2 };
  string_list within_;
  string_list first_;  // empty while every token is the same in both places
  std::vector<std::uint8_t> flags_;
  std::size_t leading_drops_ = 0;
  char leading_character_ = ' ';
};

}  // namespace fastserve::model
