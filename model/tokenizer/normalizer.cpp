#include "model/tokenizer/normalizer.hpp"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uniset.h>

#include <stdexcept>
#include <utility>

#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

namespace {

const icu::UnicodeSet& unicode_9() {
  static const icu::UnicodeSet set = [] {
    UErrorCode status = U_ZERO_ERROR;
    icu::UnicodeSet made(icu::UnicodeString::fromUTF8("[:age=9.0:]"), status);
    if (U_FAILURE(status))
      throw std::runtime_error(std::string("ICU has no age data: ") + u_errorName(status));
    made.freeze();
    return made;
  }();
  return set;
}

const icu::Normalizer2& icu_normalizer(unicode_form form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* found = nullptr;
  switch (form) {
    case unicode_form::nfc:
      found = icu::Normalizer2::getNFCInstance(status);
      break;
    case unicode_form::nfd:
      found = icu::Normalizer2::getNFDInstance(status);
      break;
    case unicode_form::nfkc:
      found = icu::Normalizer2::getNFKCInstance(status);
      break;
    case unicode_form::nfkd:
      found = icu::Normalizer2::getNFKDInstance(status);
      break;
  }
  if (U_FAILURE(status)) {
    throw std::runtime_error(std::string("ICU has no normalization data: ") + u_errorName(status));
  }
  return *found;
}

class unicode_normalizer final : public normalizer {
 public:
  explicit unicode_normalizer(unicode_form form) : icu_(icu_normalizer(form), unicode_9()) {}

  void apply(std::string& text, bool) const override {
    if (utf8::ascii(text)) return;
    UErrorCode status = U_ZERO_ERROR;
    std::string out;
    icu::StringByteSink<std::string> sink(&out, static_cast<int32_t>(text.size()));
    icu_.normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr,
                       status);
    if (U_FAILURE(status)) {
      throw std::runtime_error(std::string("Unicode normalization failed: ") + u_errorName(status));
    }
    text = std::move(out);
  }

 private:
  icu::FilteredNormalizer2 icu_;
};

// One character at a time; `Rule(out, code)` appends what it becomes.
template <typename Rule>
class mapping_normalizer final : public normalizer {
 public:
  explicit mapping_normalizer(Rule rule) : rule_(rule) {}
  void apply(std::string& text, bool) const override {
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
      const utf8::character c = utf8::at(text, at);
      rule_(out, c.code);
      at += c.size;
    }
    text = std::move(out);
  }

 private:
  Rule rule_;
};

class strip_normalizer final : public normalizer {
 public:
  strip_normalizer(bool left, bool right) : left_(left), right_(right) {}
  void apply(std::string& text, bool) const override {
    std::size_t start = 0;
    std::size_t end = text.size();
    const auto space = [](char32_t code) { return (unicode_class(code) & is_space) != 0; };
    while (left_ && start < end) {
      const utf8::character c = utf8::at(text, start);
      if (!space(c.code)) break;
      start += c.size;
    }
    while (right_ && end > start) {
      const utf8::character c = utf8::back(std::string_view(text).substr(0, end));
      if (!space(c.code)) break;
      end -= c.size;
    }
    text = text.substr(start, end - start);
  }

 private:
  bool left_;
  bool right_;
};

class prepend_normalizer final : public normalizer {
 public:
  explicit prepend_normalizer(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(std::string& text, bool) const override {
    if (!text.empty()) text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class replace_normalizer final : public normalizer {
 public:
  replace_normalizer(std::string pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::string& text, bool) const override {
    if (pattern_.empty() || text.find(pattern_) == std::string::npos) return;
    std::string out;
    out.reserve(text.size() + text.size() / 4);
    std::size_t done = 0;
    for (std::size_t at; (at = text.find(pattern_, done)) != std::string::npos; done = at + pattern_.size()) {
      out.append(text, done, at - done).append(content_);
    }
    out.append(text, done, std::string::npos);
    text = std::move(out);
  }

 private:
  std::string pattern_;
  std::string content_;
};

class pattern_normalizer final : public normalizer {
 public:
  pattern_normalizer(split_pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::string& text, bool) const override {
    std::vector<text_match> matches;
    pattern_.find_all(text, matches);
    std::string out;
    std::size_t done = 0;
    for (const text_match& match : matches) {
      out.append(text, done, match.start - done).append(content_);
      done = match.end;
    }
    out.append(text, done, std::string::npos);
    text = std::move(out);
  }

 private:
  split_pattern pattern_;
  std::string content_;
};

class normalizer_sequence final : public normalizer {
 public:
  explicit normalizer_sequence(std::vector<std::unique_ptr<normalizer>> steps) : steps_(std::move(steps)) {}
  void apply(std::string& text, bool first) const override {
    for (const auto& step : steps_) step->apply(text, first);
  }

 private:
  std::vector<std::unique_ptr<normalizer>> steps_;
};

void keep_unaccented(std::string& out, char32_t code) {
  if ((unicode_class(code) & is_accent) == 0) utf8::append(out, code);
}

}  // namespace

std::unique_ptr<normalizer> make_unicode_normalizer(unicode_form form) {
  return std::make_unique<unicode_normalizer>(form);
}
std::unique_ptr<normalizer> make_lowercase_normalizer() {
  return std::make_unique<mapping_normalizer<decltype(&append_lower)>>(&append_lower);
}
std::unique_ptr<normalizer> make_strip_normalizer(bool left, bool right) {
  return std::make_unique<strip_normalizer>(left, right);
}
std::unique_ptr<normalizer> make_strip_accents_normalizer() {
  return std::make_unique<mapping_normalizer<decltype(&keep_unaccented)>>(&keep_unaccented);
}
std::unique_ptr<normalizer> make_prepend_normalizer(std::string prefix) {
  return std::make_unique<prepend_normalizer>(std::move(prefix));
}
std::unique_ptr<normalizer> make_replace_normalizer(std::string pattern, std::string content) {
  return std::make_unique<replace_normalizer>(std::move(pattern), std::move(content));
}
std::unique_ptr<normalizer> make_replace_normalizer(split_pattern pattern, std::string content) {
  return std::make_unique<pattern_normalizer>(std::move(pattern), std::move(content));
}
std::unique_ptr<normalizer> make_normalizer_sequence(std::vector<std::unique_ptr<normalizer>> steps) {
  return std::make_unique<normalizer_sequence>(std::move(steps));
}

}  // namespace fastserve::model
