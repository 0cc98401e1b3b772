#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/tokenizer/split_pattern.hpp"

/// The normalizers of tokenizer.json. Each rewrites well-formed UTF-8 in place and leaves it well-formed.
namespace fastserve::model {

class normalizer {
 public:
  virtual ~normalizer() = default;
  /// `first` is true for the text that opens the input, false after an added token.
  virtual void apply(std::string& text, bool first) const = 0;
};

enum class unicode_form { nfc, nfd, nfkc, nfkd };

/// Unicode normalization as of Unicode 9, like the reference library: younger characters stay as they are.
std::unique_ptr<normalizer> make_unicode_normalizer(unicode_form form);
std::unique_ptr<normalizer> make_lowercase_normalizer();
std::unique_ptr<normalizer> make_strip_normalizer(bool left, bool right);
std::unique_ptr<normalizer> make_strip_accents_normalizer();
std::unique_ptr<normalizer> make_prepend_normalizer(std::string prefix);
/// Every `pattern` becomes `content`.
std::unique_ptr<normalizer> make_replace_normalizer(std::string pattern, std::string content);
std::unique_ptr<normalizer> make_replace_normalizer(split_pattern pattern, std::string content);
std::unique_ptr<normalizer> make_normalizer_sequence(std::vector<std::unique_ptr<normalizer>> steps);

struct bert_options {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};
std::unique_ptr<normalizer> make_bert_normalizer(const bert_options& options);

/// SentencePiece's own white-space rules, for models without a character map.
struct sentencepiece_options {
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;
  /// The dummy prefix also after special tokens, as Hugging Face's "legacy" Llama tokenizers do.
  bool prefix_everywhere = true;
};
std::unique_ptr<normalizer> make_sentencepiece_normalizer(const sentencepiece_options& options);

}  // namespace fastserve::model
