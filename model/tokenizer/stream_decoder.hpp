#pragma once

#include <string>
#include <string_view>

#include "model/tokenizer/decode_table.hpp"
#include "model/tokenizer/tokenizer.hpp"

namespace fastserve::model {

/// Makes valid UTF-8 of bytes that come in any portions: whole characters pass, an unfinished one waits,
/// bytes that can become none turn into U+FFFD.
class utf8_assembler {
 public:
  /// Appends to `out` what is certain.
  void push(std::string_view bytes, std::string& out);
  /// Ends the text: an unfinished character becomes U+FFFD.
  void flush(std::string& out);

 private:
  std::string held_;  // at most three bytes
};

/// Detokenizer of a stream: text as soon as it is certain, never a part of a character. What `push` and
/// `flush` return, put together, is `tokenizer::decode` of all the ids. Constant work a token.
///
///     stream_decoder text(tokenizer);
///     for (token_id id : answer) std::cout << text.push(id);
///     std::cout << text.flush();
class stream_decoder {
 public:
  enum class start {
    of_text,     ///< the first token begins a text: a space that only marks a word's start is dropped
    within_text  ///< the tokens continue a text that is already there
  };

  /// The tokenizer must outlive the decoder.
  explicit stream_decoder(const tokenizer& tokens, bool skip_special = true, start at = start::of_text);

  /// Text that token adds. Ids without a token add nothing.
  std::string push(token_id id);
  /// Ends the text; the decoder is then as new.
  std::string flush();

 private:
  void begin();

  const decode_table* table_;
  bool skip_special_;
  start start_;
  bool first_ = true;
  std::size_t drops_ = 0;  // leading characters that may still be dropped
  utf8_assembler assembler_;
};

}  // namespace fastserve::model
