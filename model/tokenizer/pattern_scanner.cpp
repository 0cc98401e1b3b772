#include "model/tokenizer/pattern_scanner.hpp"

#include <cstdint>

#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

namespace {

constexpr std::string_view gpt2_expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3_expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class scanner {
 public:
  explicit scanner(std::string_view text) : text_(text), ascii_(ascii_classes()) {}

  std::size_t size() const { return text_.size(); }
  char byte(std::size_t at) const { return at < text_.size() ? text_[at] : '\0'; }

  // The class of the character at a place and its size; class 0 and size 0 at the end.
  struct seen {
    std::uint16_t bits;
    std::size_t size;
  };
  seen look(std::size_t at) const {
    if (at >= text_.size()) return {0, 0};
    const auto lead = static_cast<unsigned char>(text_[at]);
    if (lead < 0x80) return {ascii_[lead], 1};
    const utf8::character c = utf8::at(text_, at);
    return {unicode_class(c.code), c.size};
  }
  bool is_other(const seen& c) const {
    return c.size > 0 && (c.bits & (is_letter | is_number | is_space)) == 0;
  }

  // End of the run of characters of a class.
  std::size_t run(std::size_t at, std::uint16_t bits) const {
    for (;;) {
      const seen c = look(at);
      if ((c.bits & bits) == 0) return at;
      at += c.size;
    }
  }
  std::size_t run_of_other(std::size_t at) const {
    for (;;) {
      const seen c = look(at);
      if (!is_other(c)) return at;
      at += c.size;
    }
  }

  // \s+(?!\S)|\s+ : the run of white space, less its last character if a word follows and it is not alone.
  std::size_t white_space(std::size_t at) const {
    std::size_t last = at;
    std::size_t end = at;
    for (seen c = look(end); (c.bits & is_space) != 0; c = look(end)) {
      last = end;
      end += c.size;
    }
    return end == text_.size() || last == at ? end : last;
  }

  // \s*[\r\n]+ : the end of the last line break in the run of white space, or `at` if there is none.
  std::size_t line_breaks(std::size_t at) const {
    std::size_t found = at;
    std::size_t end = at;
    for (seen c = look(end); (c.bits & is_space) != 0; c = look(end)) {
      end += c.size;
      if (text_[end - 1] == '\n' || text_[end - 1] == '\r') found = end;
    }
    return found;
  }

  std::string_view text() const { return text_; }

 private:
  std::string_view text_;
  const std::uint16_t* ascii_;
};

// Bytes of an English contraction behind an apostrophe at `at`, or 0.
std::size_t contraction(const scanner& s, std::size_t at, bool any_case) {
  const auto lower = [&](char c) { return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const char first = lower(s.byte(at + 1));
  const char second = lower(s.byte(at + 2));
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  // U+017F, the long s, is an s in another case.
  if (any_case && first == '\xC5' && s.byte(at + 2) == '\xBF') return 3;
  return 0;
}

std::size_t next_gpt2(const scanner& s, std::size_t at) {
  if (s.byte(at) == '\'') {
    const std::size_t size = contraction(s, at, false);
    if (size > 0) return at + size;
  }
  const std::size_t word = s.byte(at) == ' ' ? at + 1 : at;
  const scanner::seen c = s.look(word);
  if ((c.bits & is_letter) != 0) return s.run(word + c.size, is_letter);
  if ((c.bits & is_number) != 0) return s.run(word + c.size, is_number);
  if (s.is_other(c)) return s.run_of_other(word + c.size);
  return s.white_space(at);
}

std::size_t next_tiktoken(const scanner& s, std::size_t at, int max_digits) {
  if (s.byte(at) == '\'') {
    const std::size_t size = contraction(s, at, true);
    if (size > 0) return at + size;
  }
  const scanner::seen c = s.look(at);
  if ((c.bits & is_letter) != 0) return s.run(at + c.size, is_letter);
  if ((c.bits & is_number) != 0) {
    std::size_t end = at + c.size;
    for (int digits = 1; digits < max_digits; ++digits) {
      const scanner::seen next = s.look(end);
      if ((next.bits & is_number) == 0) break;
      end += next.size;
    }
    return end;
  }
  const char first = s.byte(at);
  const scanner::seen after = s.look(at + c.size);
  if (first != '\r' && first != '\n' && (after.bits & is_letter) != 0) {
    return s.run(at + c.size + after.size, is_letter);
  }
  // " ?[^\s\p{L}\p{N}]+[\r\n]*"
  const bool space = first == ' ';
  if (s.is_other(space ? after : c)) {
    std::size_t end = s.run_of_other(at + c.size);
    while (s.byte(end) == '\r' || s.byte(end) == '\n') ++end;
    return end;
  }
  const std::size_t breaks = s.line_breaks(at);
  return breaks > at ? breaks : s.white_space(at);
}

}  // namespace

std::optional<known_pattern> recognise_pattern(std::string_view expression) {
  if (expression == gpt2_expression) return known_pattern::gpt2;
  if (expression == llama3_expression) return known_pattern::llama3;
  if (expression == qwen2_expression) return known_pattern::qwen2;
  return std::nullopt;
}

std::string_view expression_of(known_pattern pattern) {
  switch (pattern) {
    case known_pattern::gpt2:
      return gpt2_expression;
    case known_pattern::llama3:
      return llama3_expression;
    case known_pattern::qwen2:
      return qwen2_expression;
  }
  return {};
}

void scan_pattern(known_pattern pattern, std::string_view text, std::vector<std::string_view>& words) {
  const scanner s(text);
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    switch (pattern) {
      case known_pattern::gpt2:
        end = next_gpt2(s, at);
        break;
      case known_pattern::llama3:
        end = next_tiktoken(s, at, 3);
        break;
      case known_pattern::qwen2:
        end = next_tiktoken(s, at, 1);
        break;
    }
    words.push_back(text.substr(at, end - at));
    at = end;
  }
}

}  // namespace fastserve::model
