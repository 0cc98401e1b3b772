#pragma once

#include <memory>
#include <string>

#include "model/tokenizer/string_table.hpp"
#include "model/tokenizer/subword_model.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

/// WordPiece (BERT): a word is cut greedily into the longest tokens; all but the first carry a prefix ("##")
/// in the vocabulary. A word that cannot be cut, or is too long, is one unknown token.
class wordpiece_model final : public subword_model {
 public:
  wordpiece_model(const vocabulary& tokens, token_id unk, std::string_view prefix,
                  std::size_t max_word_characters);

  void encode(std::string_view word, encode_scratch& scratch, std::vector<token_id>& out) const override;

 private:
  bool cut(std::string_view word, std::vector<token_id>& out) const;

  string_table first_;      // every token, as the start of a word
  string_table following_;  // tokens with the prefix, without it
  token_id unk_;
  std::size_t max_word_characters_;
};

}  // namespace fastserve::model
