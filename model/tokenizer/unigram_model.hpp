#pragma once

#include <array>
#include <memory>
#include <vector>

#include "model/tokenizer/bpe_merge.hpp"
#include "model/tokenizer/json_reader.hpp"
#include "model/tokenizer/subword_model.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

/// Unigram language model (Kudo, 2018): the segmentation of highest total score, by dynamic programming. A
/// character that no token covers is unknown, at ten below the lowest score; runs of them are one token.
class unigram_model final : public subword_model {
 public:
  /// `scores[id]` for every token of `tokens`.
  unigram_model(const vocabulary& tokens, const std::vector<double>& scores, token_id unk,
                bool byte_fallback);

  void encode(std::string_view word, encode_scratch& scratch, std::vector<token_id>& out) const override;

 private:
  void emit_unknown(std::string_view text, std::vector<token_id>& out) const;

  merge_table trie_;                     // (node, byte) to node
  std::vector<token_id> token_of_node_;  // or -1
  std::vector<double> scores_;
  double unk_score_ = 0;
  token_id unk_;
  bool byte_fallback_ = false;
  std::array<token_id, 256> fallback_{};
};

/// The model of a tokenizer.json: a list of [token, score]. Fills `tokens`.
std::unique_ptr<subword_model> read_unigram(const json_reader& model, vocabulary& tokens);

}  // namespace fastserve::model
