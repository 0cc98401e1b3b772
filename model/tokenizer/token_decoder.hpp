#pragma once

#include <string>
#include <vector>

#include "model/tokenizer/added_tokens.hpp"
#include "model/tokenizer/decode_table.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

/// The decoders of tokenizer.json: steps that turn a token's text into the bytes it adds to a decoded text.
/// Without any step tokens are joined by spaces.
class token_decoder {
 public:
  void byte_level();
  void byte_fallback();
  void replace(std::string pattern, std::string content);
  void metaspace(std::string replacement, bool prepended);
  void wordpiece(std::string prefix, bool cleanup);
  /// Drops up to `left` and `right` of a character at each token's ends, or at the text's once fused. Throws
  /// std::runtime_error if that cannot be done while streaming.
  void strip(std::string character, std::size_t left, std::size_t right);
  /// From here on the text is one.
  void fuse() { fused_ = true; }

  /// Works out every token. Throws nothing but std::bad_alloc.
  decode_table build(const vocabulary& tokens, const std::vector<added_token>& added) const;

 private:
  enum class kind { byte_level, byte_fallback, replace, metaspace, wordpiece, strip };
  struct step {
    kind what;
    std::string pattern;
    std::string content;
    bool flag = false;
    std::size_t left = 0;
    std::size_t right = 0;
  };
  void add(step next);
  std::string render(const std::string& token, bool first) const;

  std::vector<step> steps_;
  bool fused_ = false;
  char leading_character_ = ' ';
  std::size_t leading_drops_ = 0;
};

}  // namespace fastserve::model
