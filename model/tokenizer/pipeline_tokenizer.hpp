#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "model/tokenizer/added_tokens.hpp"
#include "model/tokenizer/normalizer.hpp"
#include "model/tokenizer/pre_tokenizer.hpp"
#include "model/tokenizer/subword_model.hpp"
#include "model/tokenizer/tokenizer.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

/// The parts of a tokenizer, put together by a loader.
struct tokenizer_parts {
  vocabulary tokens;                      ///< the model's own and the added ones
  std::vector<added_token> added;         ///< each with its id in `tokens`
  std::unique_ptr<normalizer> normalize;  ///< may be null
  bool patterns_are_normalized = false;   ///< added tokens are looked for as written, normalized or not
  std::unique_ptr<pre_tokenizer> split;   ///< may be null: the text is one word
  std::unique_ptr<subword_model> model;
  decode_table pieces;
  std::vector<token_id> before;  ///< special tokens put before a text ...
  std::vector<token_id> after;   ///< ... and after it
  std::optional<token_id> bos;
  std::optional<token_id> eos;
};

/// Every tokenizer here: added tokens are cut out, the rest is normalized, split into words and handed to the
/// model. The order of steps is that of the Hugging Face library.
class pipeline_tokenizer final : public tokenizer {
 public:
  explicit pipeline_tokenizer(tokenizer_parts parts);

  std::vector<token_id> encode(std::string_view text, bool add_special) const override;
  const decode_table& pieces() const override { return parts_.pieces; }
  std::optional<token_id> token_to_id(std::string_view token) const override {
    return parts_.tokens.id_of(token);
  }
  std::optional<token_id> bos() const override { return parts_.bos; }
  std::optional<token_id> eos() const override { return parts_.eos; }

 private:
  struct scratch {
    encode_scratch model;
    word_list words;
    std::string normalized;
    std::vector<text_segment> raw;
    std::vector<text_segment> cut;
  };
  void encode_text(std::string_view text, scratch& memory, std::vector<token_id>& out) const;
  void encode_between(std::string_view text, bool first, scratch& memory, std::vector<token_id>& out) const;
  void encode_words(std::string_view text, bool first, scratch& memory, std::vector<token_id>& out) const;

  tokenizer_parts parts_;
  std::unique_ptr<added_token_matcher> before_normalizing_;
  std::unique_ptr<added_token_matcher> after_normalizing_;
  // One warm scratch. An encode that finds it taken by another thread brings its own.
  mutable std::mutex mutex_;
  mutable std::unique_ptr<scratch> kept_;
};

}  // namespace fastserve::model
