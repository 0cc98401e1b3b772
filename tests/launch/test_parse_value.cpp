#include <boost/test/unit_test.hpp>
#include <limits>
#include <stdexcept>

#include "launch/parse_value.hpp"
#include "launch/suggest.hpp"
#include "launch/utf8_text.hpp"

using namespace fastserve::launch;

BOOST_AUTO_TEST_SUITE(parse_value)

BOOST_AUTO_TEST_CASE(integers_are_whole_and_in_range) {
  BOOST_TEST(parse_integer("12", 0, 100) == 12);
  BOOST_TEST(parse_integer("-3", -5, 5) == -3);
  for (const char* bad :
       {"", " 1", "1 ", "1.0", "1k", "0x10", "+1", "101", "-1", "99999999999999999999", "--"})
    BOOST_CHECK_THROW(parse_integer(bad, 0, 100), std::invalid_argument);
  BOOST_TEST(parse_unsigned("18446744073709551615") == std::numeric_limits<std::uint64_t>::max());
  BOOST_CHECK_THROW(parse_unsigned("18446744073709551616"), std::invalid_argument);
  BOOST_CHECK_THROW(parse_unsigned("-1"), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(reals_are_finite_and_in_range) {
  BOOST_TEST(parse_real("0.25", 0, 1) == 0.25F);
  BOOST_TEST(parse_bytes("0") == 0U);
  BOOST_TEST(parse_bytes("1500") == 1500U);
  BOOST_TEST(parse_bytes("64MB") == 64'000'000U);
  BOOST_TEST(parse_bytes("8GiB") == std::uint64_t{8} << 30);
  for (const auto* wrong :
       {"", "B", "GiB", "-1", "1.5GB", "8 GB", "8G", "8gib", "99999999999TiB", "1048577TiB"})
    BOOST_CHECK_THROW(parse_bytes(wrong), std::invalid_argument);
  for (const std::uint64_t bytes : {0UL, 7UL, 1000UL, 1024UL, 64'000'000UL, 3UL << 40})
    BOOST_TEST(parse_bytes(format_exact_bytes(bytes)) == bytes);
  BOOST_TEST(format_exact_bytes(std::uint64_t{8} << 30) == "8GiB");
  BOOST_TEST(parse_real("1e-1", 0, 1) == 0.1F);
  BOOST_TEST(parse_real("0", 0, 1) == 0.0F);
  BOOST_CHECK_THROW(parse_real("0", 0, 1, true), std::invalid_argument);
  for (const char* bad : {"", "nan", "inf", "-inf", "1.5", "-0.1", "0,5", "1e999", "abc", "0.5x"})
    BOOST_CHECK_THROW(parse_real(bad, 0, 1), std::invalid_argument);
  for (const float value : {0.1F, 1.0F, 1e-30F, 123456.78F})
    BOOST_TEST(parse_real(format_real(value), 0, 1e9F) == value);
}

BOOST_AUTO_TEST_CASE(booleans_and_choices) {
  for (const char* yes : {"true", "yes", "on"}) BOOST_TEST(parse_bool(yes));
  for (const char* no : {"false", "no", "off"}) BOOST_TEST(!parse_bool(no));
  BOOST_CHECK_THROW(parse_bool("1"), std::invalid_argument);
  BOOST_TEST(parse_choice("b", {"a", "b"}) == "b");
  try {
    parse_choice("d", {"a", "b", "c"});
    BOOST_ERROR("not refused");
  } catch (const std::invalid_argument& error) {
    BOOST_TEST(error.what() == "expected a, b or c, found 'd'");
  }
}

BOOST_AUTO_TEST_CASE(id_lists) {
  BOOST_TEST(parse_ids("1,2, 3") == (std::vector<std::int32_t>{1, 2, 3}), boost::test_tools::per_element());
  BOOST_TEST(parse_ids("").empty());
  BOOST_TEST(format_ids({4, 5}) == "4,5");
  for (const char* bad : {",", "1,", ",1", "1,,2", "-1", "1;2", "1 2", "4294967296", "a"})
    BOOST_CHECK_THROW(parse_ids(bad), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(quoting_keeps_messages_printable) {
  BOOST_TEST(in_quotes("abc") == "'abc'");
  BOOST_TEST(in_quotes("a\x1b[2Jb\n\xff") == "'a\\x1b[2Jb\\n\\xff'");
  BOOST_TEST(in_quotes("\xc3\xa9") == "'\xc3\xa9'");
  BOOST_TEST(in_quotes("\xc2\x9b") ==
             "'\\xc2\\x9b'");  // a C1 control is an escape sequence to some terminals
  BOOST_TEST(in_quotes(std::string(1000, 'x')).size() < 80U);
}

BOOST_AUTO_TEST_CASE(suggestions_are_near) {
  const std::vector<std::string> keys{"max_batch", "token_budget", "temperature"};
  BOOST_TEST(nearest("max_bach", keys) == "max_batch");
  BOOST_TEST(nearest("temprature", keys) == "temperature");
  BOOST_TEST(nearest("tmeperature", keys) == "temperature");
  BOOST_TEST(nearest("zebra", keys) == "");
  BOOST_TEST(nearest(std::string(100000, 'm'), keys) == "");
}

BOOST_AUTO_TEST_CASE(utf8_is_decoded_strictly) {
  BOOST_TEST(static_cast<unsigned>(decode_char("\xe2\x82\xac", 0).code) == 0x20acU);
  for (const char* bad :
       {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80", "\xff"})
    BOOST_TEST(!decode_char(bad, 0).valid);
  BOOST_TEST(repaired_utf8("a\xff"
                           "b") ==
             "a\xef\xbf\xbd"
             "b");
}

BOOST_AUTO_TEST_CASE(a_model_cannot_steer_the_terminal) {
  BOOST_TEST(harmless_text("a\tb\n\u00e9") == "a\tb\n\u00e9");
  BOOST_TEST(harmless_text("\x1b[2J\r\x7f") == "\u241b[2J\u240d\u2421");
  BOOST_TEST(harmless_text(std::string(1, '\0') + "\xc2\x9b" + "\xff") == "\u2400\ufffd\ufffd");
}

BOOST_AUTO_TEST_CASE(columns_and_clusters) {
  BOOST_TEST(text_columns("abc") == 3);
  BOOST_TEST(text_columns("\u65e5\u672c") == 4);
  BOOST_TEST(text_columns("e\u0301") == 1);
  BOOST_TEST(text_columns("\U0001F600") == 2);
  const std::string text = "ae\u0301b";  // a, e with an accent, b
  BOOST_TEST(next_cluster(text, 1) == 4U);
  BOOST_TEST(previous_cluster(text, 4) == 1U);
  BOOST_TEST(previous_cluster(text, 1) == 0U);
  BOOST_TEST(previous_cluster(text, 0) == 0U);
  const std::string family = "\U0001F468\u200d\U0001F469\u200d\U0001F467!";
  BOOST_TEST(next_cluster(family, 0) == family.size() - 1);
  BOOST_TEST(previous_cluster("a\nb", 3) == 2U);
  BOOST_TEST(previous_cluster("a\nb", 2) == 1U);
}

BOOST_AUTO_TEST_SUITE_END()
