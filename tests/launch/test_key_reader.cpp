#include <boost/test/unit_test.hpp>
#include <random>

#include "launch/key_reader.hpp"
#include "launch/utf8_text.hpp"

using namespace fastserve::launch;

namespace {

std::vector<key_press> read(std::string_view bytes) {
  key_reader reader;
  std::vector<key_press> keys;
  for (const char c : bytes)
    for (key_press& pressed : reader.feed(static_cast<unsigned char>(c))) keys.push_back(std::move(pressed));
  return keys;
}

void check(std::string_view bytes, const std::vector<key>& expected) {
  const auto keys = read(bytes);
  BOOST_TEST_CONTEXT(bytes) {
    BOOST_REQUIRE(keys.size() == expected.size());
    for (std::size_t i = 0; i < keys.size(); ++i) BOOST_TEST((keys[i].what == expected[i]));
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(key_reader_suite)

BOOST_AUTO_TEST_CASE(control_and_escape_keys) {
  check("a\x01\x05\x0b\x15\x17\x0c\x04\x03\x7f\x08",
        {key::character, key::home, key::end, key::cut_to_end, key::cut_to_start, key::erase_word_left,
         key::clear_screen, key::end_of_input, key::interrupt, key::backspace, key::backspace});
  check("\x1b[A\x1b[B\x1b[C\x1b[D", {key::up, key::down, key::right, key::left});
  check("\x1bOA\x1bOH\x1bOF", {key::up, key::home, key::end});
  check("\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[3~", {key::home, key::end, key::home, key::end, key::erase});
  check(
      "\x1b[1;5C\x1b[1;5D\x1b"
      "b\x1b"
      "f\x1b"
      "d\x1b\x7f",
      {key::word_right, key::word_left, key::word_left, key::word_right, key::erase_word_right,
       key::erase_word_left});
}

BOOST_AUTO_TEST_CASE(enter_comes_once) {
  check("\r", {key::enter});
  check("\n", {key::enter});
  check("\r\n", {key::enter});
  check("\n\n", {key::enter, key::enter});
  check("\r\r\n\n", {key::enter, key::enter, key::enter});
}

BOOST_AUTO_TEST_CASE(a_lone_escape_hides_no_control_key) {
  check("\x1b\x03", {key::interrupt});
  check("\x1b\r", {key::enter});
  check("\x1b[\x03", {key::interrupt});
  check("\x1b[1;\x03", {key::interrupt});
  check("\x1b\x1b[A", {key::up});
  check(
      "\x1b[99z"
      "a",
      {key::unknown, key::character});
}

BOOST_AUTO_TEST_CASE(characters_are_whole) {
  const auto keys = read(
      "\xe2\x82\xac"
      "x");
  BOOST_REQUIRE(keys.size() == 2U);
  BOOST_TEST(keys[0].text == "\u20ac");
  // Cut off: a mark, and the key that cut it off is not lost.
  const auto broken = read(
      "\xe2\x82"
      "x\xff");
  BOOST_REQUIRE(broken.size() == 3U);
  BOOST_TEST(broken[0].text == "\ufffd");
  BOOST_TEST(broken[1].text == "x");
  BOOST_TEST(broken[2].text == "\ufffd");
  BOOST_TEST(read("\xe0\x80\x80").front().text == "\ufffd");
  BOOST_TEST((read("\xe2\x03").back().what == key::interrupt));
}

BOOST_AUTO_TEST_CASE(a_paste_is_one_key) {
  const auto keys = read("\x1b[200~one\r\ntwo\rthree\n\tfour\x03\x1b[A\xff\x1b[201~z");
  BOOST_REQUIRE(keys.size() == 2U);
  BOOST_TEST((keys[0].what == key::paste));
  BOOST_TEST(keys[0].text == "one\ntwo\nthree\n\tfour[A\ufffd");
  BOOST_TEST(keys[1].text == "z");
}

BOOST_AUTO_TEST_CASE(a_huge_paste_is_cut_off) {
  key_reader reader;
  std::vector<key_press> keys;
  const auto feed = [&](std::string_view bytes) {
    for (const char c : bytes)
      for (key_press& pressed : reader.feed(static_cast<unsigned char>(c)))
        keys.push_back(std::move(pressed));
  };
  feed("\x1b[200~");
  feed(std::string(key_reader::max_paste_bytes + 5000, 'x'));
  feed("\x1b[201~y");
  BOOST_REQUIRE(keys.size() == 2U);
  BOOST_TEST(keys[0].text.size() == key_reader::max_paste_bytes);
  BOOST_TEST(keys[1].text == "y");
}

BOOST_AUTO_TEST_CASE(random_bytes_give_valid_text) {
  std::mt19937 random{5};
  key_reader reader;
  std::size_t characters = 0;
  const std::string_view likely = "\x1b[O~;0123ABCDab\xe2\x82\xac\xc3\xa9\r\n";
  for (int i = 0; i < 300000; ++i) {
    const auto byte =
        static_cast<unsigned char>(random() % 2 == 0 ? random() % 256 : likely[random() % likely.size()]);
    for (const key_press& pressed : reader.feed(byte)) {
      BOOST_REQUIRE(repaired_utf8(pressed.text) == pressed.text);
      characters += pressed.what == key::character ? 1 : 0;
    }
  }
  BOOST_TEST(characters > 1000U);
}

BOOST_AUTO_TEST_SUITE_END()
