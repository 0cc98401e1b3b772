#include "model/tokenizer/split_pattern.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <map>
#include <stdexcept>

#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

namespace {

constexpr char white_space[] =
    "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
constexpr char not_white_space[] =
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{"
    "2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";

// \p{L} and its like with their youngest members, for use inside of a class.
const std::string& property(char letter) {
  static const std::map<char, std::string> known = [] {
    std::map<char, std::string> made;
    const std::pair<char, unicode_bits> list[] = {
        {'L', is_letter}, {'N', is_number}, {'M', is_mark}, {'P', is_punctuation}, {'S', is_symbol}};
    for (const auto& [name, bit] : list) made[name] = std::string("\\p{") + name + "}" + young_ranges(bit);
    return made;
  }();
  static const std::string none;
  const auto at = known.find(letter);
  return at == known.end() ? none : at->second;
}

// The inside of a class for one escape, or "" where both libraries agree. `negated`: the class is its
// complement.
std::string class_of(char escape, bool& negated) {
  negated = false;
  switch (escape) {
    case 's':
      return white_space;
    case 'S':
      return not_white_space;
    case 'D':
      negated = true;
      [[fallthrough]];
    case 'd':
      return "\\p{Nd}" + young_ranges(is_number | is_word);
    case 'W':
      negated = true;
      [[fallthrough]];
    case 'w':
      // Alphabetic, marks, decimal numbers, connectors and, in Oniguruma alone, six of Latin-1.
      return "\\p{Nd}\\p{Pc}\\p{Nl}" + property('L') + property('M') + young_ranges(is_number | is_word) +
             "\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
             "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
    case 'H':
      negated = true;
      [[fallthrough]];
    case 'h':
      return "0-9a-fA-F";
    default:
      return {};
  }
}

// Bytes of a POSIX class such as [:alpha:] at the start of a text within a class, 0 if there is none.
std::size_t posix_class(std::string_view text) {
  constexpr std::size_t shortest = 4;  // [::]
  if (!text.starts_with("[:")) return 0;
  const std::size_t end = text.find(']');
  if (end == std::string_view::npos || end + 1 < shortest || text[end - 1] != ':') return 0;
  return end + 1;
}

[[noreturn]] void refuse_class(std::string_view expression, const char* what) {
  throw std::runtime_error("regular expression " + in_quotes(expression) + " has " + what +
                           ", which is not supported");
}

}  // namespace

std::string pcre_expression(std::string_view expression) {
  std::string out;
  int depth = 0;  // of [ ]
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '[') {
      if (const std::size_t size = depth > 0 ? posix_class(expression.substr(i)) : 0; size > 0) {
        out += expression.substr(i, size);
        i += size - 1;
        continue;
      }
      // A class within a class adds its members, which PCRE2 cannot say.
      const bool negated = expression.substr(i + 1).starts_with('^');
      if (depth > 0 && negated) refuse_class(expression, "a negated class within a class");
      if (depth == 0) out += negated ? "[^" : "[";
      if (negated) ++i;
      ++depth;
      if (expression.substr(i + 1).starts_with(']')) {  // the first one is a member
        out += "\\]";
        ++i;
      }
      continue;
    }
    if (c == ']' && depth > 0) {
      if (--depth == 0) out.push_back(c);
      continue;
    }
    if (depth > 0 && expression.substr(i).starts_with("&&")) refuse_class(expression, "&& in a class");
    if (c != '\\' || i + 1 == expression.size()) {
      out.push_back(c);
      continue;
    }
    const std::string_view rest = expression.substr(i);
    const bool one_letter = rest.size() >= 5 && (rest[1] == 'p' || rest[1] == 'P') && rest[2] == '{' &&
                            rest[4] == '}' && !property(rest[3]).empty();
    bool negated = false;
    std::string inside = one_letter ? property(rest[3]) : class_of(rest[1], negated);
    if (one_letter) negated = rest[1] == 'P';
    if (inside.empty() || (depth > 0 && negated)) {
      out.append(rest.substr(0, 2));
      ++i;
      continue;
    }
    i += one_letter ? 4 : 1;
    if (depth > 0) {
      out += inside;
    } else {
      out += (negated ? "[^" : "[") + inside + "]";
    }
  }
  return out;
}

struct split_pattern::compiled {
  std::string literal;
  pcre2_code* code = nullptr;
  pcre2_match_context* limits = nullptr;

  compiled() = default;
  compiled(const compiled&) = delete;
  compiled& operator=(const compiled&) = delete;
  ~compiled() {
    pcre2_match_context_free(limits);
    pcre2_code_free(code);
  }
};

split_pattern::split_pattern() : compiled_(std::make_unique<compiled>()) {}
split_pattern::split_pattern(split_pattern&&) noexcept = default;
split_pattern& split_pattern::operator=(split_pattern&&) noexcept = default;
split_pattern::~split_pattern() = default;

split_pattern split_pattern::literal(std::string_view text) {
  split_pattern made;
  made.compiled_->literal = text;
  return made;
}

split_pattern::split_pattern(std::string_view expression) : split_pattern() {
  constexpr std::size_t longest_bytes = 16384;
  if (expression.size() > longest_bytes) {
    throw std::runtime_error("regular expression of " + std::to_string(expression.size()) +
                             " bytes, expected at most " + std::to_string(longest_bytes));
  }
  const std::string text = pcre_expression(expression);
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE where = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                                  &where, context);
  pcre2_compile_context_free(context);
  if (compiled_->code == nullptr) {
    PCRE2_UCHAR message[160];
    pcre2_get_error_message(error, message, sizeof message);
    throw std::runtime_error("regular expression " + in_quotes(expression) +
                             " does not compile: " + reinterpret_cast<const char*>(message));
  }
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);  // where it fails, the interpreter runs
  compiled_->limits = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(compiled_->limits, 50'000'000);
}

void split_pattern::find_all(std::string_view text, std::vector<text_match>& out) const {
  if (compiled_->code == nullptr) {
    const std::string& what = compiled_->literal;
    if (what.empty()) return;
    for (std::size_t at = 0; (at = text.find(what, at)) != std::string_view::npos; at += what.size()) {
      out.push_back({at, at + what.size()});
    }
    return;
  }
  using match_data = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;
  const match_data data(pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const std::size_t* found = pcre2_get_ovector_pointer(data.get());
  std::size_t from = 0;
  std::size_t last_end = static_cast<std::size_t>(-1);
  while (from <= text.size()) {
    const auto match = [&](std::uint32_t options) {
      return pcre2_match(compiled_->code, subject, text.size(), from, options, data.get(), compiled_->limits);
    };
    int count = match(PCRE2_NO_UTF_CHECK);
    // A group repeated over a long text outgrows the compiled code's stack; the interpreter uses the heap.
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) count = match(PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      PCRE2_UCHAR message[160];
      pcre2_get_error_message(count, message, sizeof message);
      throw std::runtime_error(std::string("the tokenizer's regular expression fails on this text: ") +
                               reinterpret_cast<const char*>(message));
    }
    const std::size_t start = found[0];
    const std::size_t end = found[1];
    const bool empty = start == end;
    // An empty match right behind another match is none.
    if (!empty || start != last_end) out.push_back({start, end});
    last_end = end;
    from = empty ? (end < text.size() ? end + utf8::length(text[end]) : end + 1) : end;
  }
}

}  // namespace fastserve::model
