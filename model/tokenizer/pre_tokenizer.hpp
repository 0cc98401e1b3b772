#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/pattern_scanner.hpp"
#include "model/tokenizer/split_pattern.hpp"

/// The pre-tokenizers of tokenizer.json: they cut a text into the words that the model sees one by one.
namespace fastserve::model {

/// The words of one stretch of text between added tokens.
struct word_list {
  std::vector<std::string_view> words;
  /// Holds words that are no longer part of the text.
  std::deque<std::string> rewritten;
  /// Where the whole input starts, or null if this stretch is a later one.
  const char* input_start = nullptr;
  /// For the pre-tokenizers' own use.
  std::vector<std::string_view> scratch;
  std::vector<text_match> matches;

  void reset(std::string_view text, bool first);
};

class pre_tokenizer {
 public:
  virtual ~pre_tokenizer() = default;
  /// Cuts each word further. Empty words are dropped.
  virtual void split(word_list& list) const = 0;
};

/// What becomes of the matches of a pattern.
enum class split_behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

std::unique_ptr<pre_tokenizer> make_pattern_split(known_pattern pattern);
std::unique_ptr<pre_tokenizer> make_split(split_pattern pattern, split_behavior behavior, bool invert);
/// One character is a match if its unicode_class has any of `bits`.
std::unique_ptr<pre_tokenizer> make_class_split(unsigned bits, split_behavior behavior);
/// Adds a space before words that have none; the mapping to bytes is the model's.
std::unique_ptr<pre_tokenizer> make_prefix_space();
/// Words and runs of other characters, white space dropped: \w+|[^\w\s]+
std::unique_ptr<pre_tokenizer> make_word_split();

enum class prepend_scheme { always, never, first };
std::unique_ptr<pre_tokenizer> make_metaspace(std::string replacement, prepend_scheme scheme, bool split);
std::unique_ptr<pre_tokenizer> make_pre_tokenizer_sequence(std::vector<std::unique_ptr<pre_tokenizer>> steps);

}  // namespace fastserve::model
