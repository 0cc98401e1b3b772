#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::model {

/// A match: bytes [start, end) of the text. May be empty.
struct text_match {
  std::size_t start;
  std::size_t end;
};

/// A regular expression of a tokenizer.json, which is written for Oniguruma, run by PCRE2's JIT compiler.
///
/// Where the two disagree the expression is rewritten: \s is White_Space, \d is \p{Nd}, \w is the Unicode
/// word, \h is a hexadecimal digit, ^ and $ match at lines; \p{L}, \p{N}, \p{M}, \p{P}, \p{S} also hold the
/// characters assigned after PCRE2's Unicode version; a class within a class adds its members. Classes that
/// are cut by && or hold a negated class are refused.
class split_pattern {
 public:
  /// Throws std::runtime_error for an expression that does not compile.
  explicit split_pattern(std::string_view expression);
  /// Matches the text itself.
  static split_pattern literal(std::string_view text);

  split_pattern(split_pattern&&) noexcept;
  split_pattern& operator=(split_pattern&&) noexcept;
  ~split_pattern();

  /// Appends all matches, left to right, none inside of another. Throws std::runtime_error if the expression
  /// needs more steps than a sane one would.
  void find_all(std::string_view text, std::vector<text_match>& out) const;

 private:
  split_pattern();
  struct compiled;
  std::unique_ptr<compiled> compiled_;
};

/// The expression as PCRE2 should read it.
std::string pcre_expression(std::string_view oniguruma);

}  // namespace fastserve::model
