#include <utility>

#include "model/tokenizer/normalizer.hpp"
#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"

/// The normalizers of two families: BERT and SentencePiece.
namespace fastserve::model {

namespace {

bool chinese(char32_t c) {
  // 0x2B920 is a slip of the reference library (the block starts at 0x2B820) that vocabularies rely on.
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

class bert_normalizer final : public normalizer {
 public:
  explicit bert_normalizer(const bert_options& options)
      : options_(options), decompose_(make_unicode_normalizer(unicode_form::nfd)) {}

  void apply(std::string& text, bool first) const override {
    if (options_.clean_text || options_.handle_chinese_chars) clean(text);
    if (options_.strip_accents && !utf8::ascii(text)) {
      decompose_->apply(text, first);
      rewrite(text, [](std::string& out, char32_t code) {
        if ((unicode_class(code) & bert_accent) == 0) utf8::append(out, code);
      });
    }
    if (options_.lowercase) rewrite(text, append_lower);
  }

 private:
  template <typename Rule>
  static void rewrite(std::string& text, Rule rule) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
      const utf8::character c = utf8::at(text, at);
      rule(out, c.code);
      at += c.size;
    }
    text = std::move(out);
  }

  void clean(std::string& text) const {
    const std::uint16_t* ascii = ascii_classes();
    rewrite(text, [&](std::string& out, char32_t code) {
      const std::uint16_t bits = code < 0x80 ? ascii[code] : unicode_class(code);
      if (options_.clean_text && (bits & bert_control) != 0) return;
      if (options_.clean_text && (bits & is_space) != 0) code = ' ';
      const bool apart = options_.handle_chinese_chars && chinese(code);
      if (apart) out.push_back(' ');
      utf8::append(out, code);
      if (apart) out.push_back(' ');
    });
  }

  bert_options options_;
  std::unique_ptr<normalizer> decompose_;
};

// Follows the order of steps of SentencePiece's normalizer (sentencepiece 0.1.97, src/normalizer.cc) for an
// empty character map.
class sentencepiece_normalizer final : public normalizer {
 public:
  explicit sentencepiece_normalizer(const sentencepiece_options& options) : options_(options) {}

  void apply(std::string& text, bool first) const override {
    std::string_view rest = text;
    if (options_.remove_extra_whitespaces) {
      while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    }
    if (rest.empty()) {
      text.clear();
      return;
    }
    const std::string_view space = options_.escape_whitespaces ? "\xE2\x96\x81" : " ";
    const bool dummy = options_.add_dummy_prefix && (first || options_.prefix_everywhere);
    std::string out;
    out.reserve(rest.size() + rest.size() / 4 + space.size());
    if (dummy && !options_.treat_whitespace_as_suffix) out += space;
    bool after_space = options_.remove_extra_whitespaces;
    for (const char c : rest) {
      if (c == ' ') {
        if (!after_space) out += space;
        after_space = options_.remove_extra_whitespaces;
      } else {
        out.push_back(c);
        after_space = false;
      }
    }
    if (options_.remove_extra_whitespaces) {
      while (out.ends_with(space)) out.erase(out.size() - space.size());
    }
    if (dummy && options_.treat_whitespace_as_suffix) out += space;
    text = std::move(out);
  }

 private:
  sentencepiece_options options_;
};

}  // namespace

std::unique_ptr<normalizer> make_bert_normalizer(const bert_options& options) {
  return std::make_unique<bert_normalizer>(options);
}
std::unique_ptr<normalizer> make_sentencepiece_normalizer(const sentencepiece_options& options) {
  return std::make_unique<sentencepiece_normalizer>(options);
}

}  // namespace fastserve::model
