#include "model/tokenizer/byte_alphabet.hpp"
#include "model/tokenizer/charsmap.hpp"
#include "model/tokenizer/normalizer.hpp"
#include "model/tokenizer/pattern_scanner.hpp"
#include "model/tokenizer/split_pattern.hpp"
#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"
#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;

BOOST_AUTO_TEST_SUITE(text)

BOOST_AUTO_TEST_CASE(every_character_survives_utf8) {
  for (char32_t code = 0; code < 0x110000; ++code) {
    std::string out;
    utf8::append(out, code);
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    BOOST_REQUIRE(utf8::valid(out) == !surrogate);
    if (surrogate) continue;
    BOOST_REQUIRE(utf8::at(out, 0).code == code);
    BOOST_REQUIRE(utf8::at(out, 0).size == out.size());
    BOOST_REQUIRE(utf8::back(out).code == code);
    for (std::size_t size = 1; size < out.size(); ++size) {
      BOOST_REQUIRE(utf8::look(std::string_view(out).substr(0, size)).kind == utf8::state::cut);
    }
  }
}

// Unicode 15, table 3-8.
BOOST_AUTO_TEST_CASE(ill_formed_parts_are_replaced_one_by_one) {
  const std::string mark = "\xEF\xBF\xBD";
  BOOST_TEST(utf8::repaired("a\xF1\x80\x80\xE1\x80\xC2"
                            "b\x80"
                            "c\x80\xBF"
                            "d") == "a" + mark + mark + mark + "b" + mark + "c" + mark + mark + "d");
  BOOST_TEST(utf8::repaired("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == [&] {
    std::string out;
    for (int i = 0; i < 8; ++i) out += mark;
    return out + "A";
  }());
}

BOOST_AUTO_TEST_CASE(alphabet_is_one_to_one) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  const std::string written = alphabet_of_bytes(all);
  BOOST_TEST(utf8::valid(written));
  BOOST_TEST(bytes_of_alphabet(written).value() == all);
  BOOST_TEST(alphabet_of_bytes(" the\n") == "\xC4\xA0the\xC4\x8A");
  BOOST_TEST(!bytes_of_alphabet("a b").has_value());
}

BOOST_AUTO_TEST_CASE(base64) {
  BOOST_TEST(decode_base64("") == "");
  BOOST_TEST(decode_base64("IQ==") == "!");
  BOOST_TEST(decode_base64("/+8=") == "\xFF\xEF");
  BOOST_TEST(decode_base64("YWJj") == "abc");
  refusal([] { decode_base64("a b"); });
}

// The hand-written scanners against PCRE2 with the expression that they stand for.
BOOST_AUTO_TEST_CASE(scanners_equal_their_expressions) {
  dice random(14);
  for (const known_pattern pattern : {known_pattern::gpt2, known_pattern::llama3, known_pattern::qwen2}) {
    BOOST_TEST((recognise_pattern(expression_of(pattern)) == pattern));
    const split_pattern expression(expression_of(pattern));
    for (int round = 0; round < 4000; ++round) {
      const std::string text = random.text(random.below(30));
      std::vector<std::string_view> words;
      scan_pattern(pattern, text, words);
      std::vector<text_match> matches;
      expression.find_all(text, matches);
      BOOST_REQUIRE(words.size() == matches.size());
      for (std::size_t i = 0; i < words.size(); ++i) {
        BOOST_REQUIRE(static_cast<std::size_t>(words[i].data() - text.data()) == matches[i].start);
        BOOST_REQUIRE(words[i].size() == matches[i].end - matches[i].start);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(escapes_mean_what_oniguruma_means) {
  const auto words = [](const char* expression, const std::string& text) {
    std::vector<text_match> matches;
    split_pattern(expression).find_all(text, matches);
    std::vector<std::string> out;
    for (const text_match& match : matches) out.push_back(text.substr(match.start, match.end - match.start));
    return out;
  };
  using list = std::vector<std::string>;
  BOOST_TEST(words("\\h+", "fee xyz \t 0F") == (list{"fee", "0F"}));
  BOOST_TEST(words("\\s",
                   "a\xE1\xA0\x8E"
                   "b\xC2\x85") == (list{"\xC2\x85"}));  // U+180E is no space
  BOOST_TEST(words("[^\\s]+", "ab c") == (list{"ab", "c"}));
  BOOST_TEST(words("[\\S]+", "ab c") == (list{"ab", "c"}));
  BOOST_TEST(words("\\d", "a\xD9\xA1") == (list{"\xD9\xA1"}));
  BOOST_TEST(words("^b$", "a\nb\nc") == (list{"b"}));
  BOOST_TEST(words("x*", "xxb") == (list{"xx", ""}));
  BOOST_TEST(words("\\p{L}+",
                   "a\xF0\x96\x84\x80"
                   "b") == (list{"a\xF0\x96\x84\x80"
                                 "b"}));  // U+16100, Unicode 16
  BOOST_TEST(words("\\P{L}+", "a12b") == (list{"12"}));
  // A class that ends in a colon ends; one that begins with a bracket holds it; classes nest.
  BOOST_TEST(words("[.,;:]|\\s?[^\\s.,;:]+|\\s+", "a b: c  d") == (list{"a", " b", ":", " c", "  ", "d"}));
  BOOST_TEST(words("[:]\\d|[^:]\\d", ":1a2") == (list{":1", "a2"}));
  BOOST_TEST(words("[[:digit:]:]+\\s", "1:2 3") == (list{"1:2 "}));
  BOOST_TEST(words("[]\\s]+x|[^]\\d]", "] ]x1]y") == (list{"] ]x", "y"}));
  BOOST_TEST(words("[^(\\s|[.,!])]+", "ab c.d|e(f") == (list{"ab", "c", "d", "e", "f"}));
  refusal([] { split_pattern("("); });
  BOOST_TEST(
      contains(refusal([] { split_pattern("[\\p{L}&&[^a]]"); }), "&& in a class, which is not supported"));
  BOOST_TEST(contains(refusal([] { split_pattern("[a[^b]]"); }), "a negated class within a class"));
  refusal([] { split_pattern(std::string(20000, 'a')); });
}

// Two libraries, two Unicode versions, one answer for every character.
BOOST_AUTO_TEST_CASE(expressions_and_scanners_agree_on_every_character) {
  std::string all;
  std::vector<std::size_t> starts;
  std::vector<char32_t> codes;
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    starts.push_back(all.size());
    codes.push_back(code);
    utf8::append(all, code);
  }
  const auto check = [&](const char* expression, auto expected) {
    std::vector<text_match> matches;
    split_pattern(expression).find_all(all, matches);
    std::size_t next = 0;
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < starts.size(); ++i) {
      const bool found = next < matches.size() && matches[next].start == starts[i];
      if (found) ++next;
      if (found != expected(codes[i], unicode_class(codes[i]))) ++wrong;
    }
    BOOST_TEST(wrong == 0u, expression << ": " << wrong << " wrong");
    BOOST_TEST(next == matches.size());
    BOOST_TEST(next > 0u);
  };
  const auto has = [](unsigned bit) { return [bit](char32_t, unsigned b) { return (b & bit) != 0; }; };
  check("\\p{L}", has(is_letter));
  check("[\\p{N}]", has(is_number));
  check("\\p{M}", has(is_mark));
  check("\\p{P}", has(is_punctuation));
  check("\\p{S}", has(is_symbol));
  check("\\s", has(is_space));
  check("[\\S]", [](char32_t, unsigned b) { return (b & is_space) == 0; });
  check("[^\\s\\p{L}]", [](char32_t, unsigned b) { return (b & (is_space | is_letter)) == 0; });
  const auto word = [](char32_t c, unsigned b) {
    const bool latin = c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE);
    return latin || ((b & is_word) != 0 && c != 0x200C && c != 0x200D);
  };
  check("\\w", word);
  check("\\W", [&](char32_t c, unsigned b) { return !word(c, b); });
}

BOOST_AUTO_TEST_CASE(an_explosive_expression_is_refused_in_time) {
  const split_pattern expression("(a+)+$");
  std::vector<text_match> matches;
  refusal([&] { expression.find_all(std::string(64, 'a') + "b", matches); });
}

BOOST_AUTO_TEST_CASE(a_repeated_group_spans_a_long_text) {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += i % 3 == 0 ? "c" : "ab";
  std::vector<text_match> matches;
  split_pattern("(?:ab|c)+").find_all(text + "d", matches);
  BOOST_REQUIRE(matches.size() == 1u);
  BOOST_TEST(matches[0].end == text.size());
}

BOOST_AUTO_TEST_CASE(lower_case) {
  const auto lower = [](char32_t code) {
    std::string out;
    append_lower(out, code);
    return out;
  };
  BOOST_TEST(lower('A') == "a");
  BOOST_TEST(lower('[') == "[");
  BOOST_TEST(lower(0x130) == "i\xCC\x87");
  BOOST_TEST(lower(0x3A3) == "\xCF\x83");
  BOOST_TEST(lower(0x10D50) == "\xF0\x90\xB5\xB0");
}

BOOST_AUTO_TEST_SUITE_END()
