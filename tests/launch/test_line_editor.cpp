#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <random>

#include "launch/line_editor.hpp"
#include "launch/line_layout.hpp"
#include "launch/utf8_text.hpp"
#include "screen.hpp"

using namespace fastserve::launch;
using event = line_editor::event;

namespace {

constexpr std::string_view left = "\x1b[D";
constexpr std::string_view up = "\x1b[A";
constexpr std::string_view down = "\x1b[B";
constexpr std::string_view paste_begin = "\x1b[200~";
constexpr std::string_view paste_end = "\x1b[201~";

struct fixture {
  prompt_history history;
  line_editor editor{history};
  screen display{20, 6};
  std::vector<line_editor::reply> events;

  fixture() {
    editor.resize(20, 6);
    display.write(editor.show());
  }

  void type(std::string_view bytes) {
    for (const char c : bytes)
      for (line_editor::reply& reply : editor.feed(static_cast<unsigned char>(c))) {
        display.write(reply.output);
        if (reply.what == event::none) continue;
        events.push_back(std::move(reply));
        display.write(editor.show());
      }
  }

  void check(const std::string& text, std::size_t cursor) {
    BOOST_TEST(editor.text() == text);
    BOOST_TEST(editor.cursor() == cursor);
  }

  /// The display ends in the rows that the layout asks for, and the cursor is where it says.
  void check_display(int columns, int rows) const {
    const line_layout layout = lay_out("> ", "| ", editor.text(), editor.cursor(), columns);
    const int shown = std::min(rows, static_cast<int>(layout.rows.size()));
    bool found = false;
    // Where the editor began on the screen and how far it has scrolled is its own affair.
    for (int first = 0; first + shown <= display.rows() && !found; ++first)
      for (int top = 0; top + shown <= static_cast<int>(layout.rows.size()) && !found; ++top) {
        found = display.cursor_row() - first == static_cast<int>(layout.cursor_row) - top &&
                display.cursor_column() == layout.cursor_column;
        for (int i = 0; i < shown && found; ++i) {
          std::string row = layout.rows[static_cast<std::size_t>(top + i)];
          row.erase(row.find_last_not_of(' ') + 1);
          found = display.row(first + i) == row;
        }
        for (int i = first + shown; i < display.rows() && found; ++i) found = display.row(i).empty();
      }
    std::string picture;
    for (int i = 0; i < display.rows(); ++i) picture += "[" + display.row(i) + "]\n";
    for (const std::string& row : layout.rows) picture += "{" + row + "}\n";
    BOOST_REQUIRE_MESSAGE(found, "cursor " << display.cursor_row() << ',' << display.cursor_column()
                                           << " layout " << layout.cursor_row << ',' << layout.cursor_column
                                           << '\n'
                                           << picture);
    BOOST_REQUIRE(display.errors == 0);
    BOOST_REQUIRE(display.wraps == 0);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(line_editor_suite)

BOOST_FIXTURE_TEST_CASE(typing_and_moving, fixture) {
  type("hello world");
  check("hello world", 11);
  BOOST_TEST(display.row(0) == "> hello world");
  type(
      "\x1b"
      "b");
  check("hello world", 6);
  type("big ");
  check("hello big world", 10);
  BOOST_TEST(display.row(0) == "> hello big world");
  BOOST_TEST(display.cursor_column() == 12);
  type("\x01");
  check("hello big world", 0);
  type("\x1b[3~H\x05!");
  check("Hello big world!", 16);
  type("\x7f\x17");
  check("Hello big ", 10);
  type("\x15");
  check("", 0);
  type("\x19");
  check("Hello big ", 10);
  type("\x02\x02\x02\x02\x0b");
  check("Hello ", 6);
  BOOST_TEST(display.bells == 0);
  type("\x1b[C");
  BOOST_TEST(display.bells == 1);
  BOOST_TEST(display.errors == 0);
}

BOOST_FIXTURE_TEST_CASE(characters_are_never_split, fixture) {
  type("a\u65e5e\u0301\U0001F600");
  const std::string text = "a\u65e5e\u0301\U0001F600";
  check(text, text.size());
  type("\x7f");
  check("a\u65e5e\u0301", 7);
  type(left);
  check("a\u65e5e\u0301", 4);
  type(left);
  check("a\u65e5e\u0301", 1);
  type("\x1b[3~");
  check("ae\u0301", 1);
  type("\x1b[3~");
  check("a", 1);
}

BOOST_FIXTURE_TEST_CASE(lines_interrupts_and_the_end, fixture) {
  type("one\rtwo\x03\x04");
  BOOST_REQUIRE(events.size() == 3U);
  BOOST_TEST((events[0].what == event::line));
  BOOST_TEST(events[0].line == "one");
  BOOST_TEST((events[1].what == event::interrupt));
  BOOST_TEST(events[1].line == "");
  BOOST_TEST((events[2].what == event::end_of_input));
  BOOST_TEST(display.row(0) == "> one");
  BOOST_TEST(display.row(1) == "> two^C");
  type("x\x01\x04");  // Ctrl-D on a text deletes
  check("", 0);
  BOOST_TEST(events.size() == 3U);
}

BOOST_FIXTURE_TEST_CASE(a_backslash_continues_a_line, fixture) {
  type("one\\\rtwo");
  check("one\ntwo", 7);
  BOOST_TEST(display.row(0) == "> one");
  BOOST_TEST(display.row(1) == "| two");
  type("\r");
  BOOST_REQUIRE(events.size() == 1U);
  BOOST_TEST(events[0].line == "one\ntwo");
  type("two\\\\\r\\\r\r");
  BOOST_REQUIRE(events.size() == 3U);
  BOOST_TEST(events[1].line == "two\\\\");  // an even number is text
  BOOST_TEST(events[2].line == "\n");
}

BOOST_FIXTURE_TEST_CASE(a_paste_is_one_prompt, fixture) {
  type("say: ");
  type(std::string{paste_begin} + "a\r\nb\rc" + std::string{paste_end});
  check("say: a\nb\nc", 10);
  BOOST_TEST(events.empty());
  BOOST_TEST(display.row(0) == "> say: a");
  BOOST_TEST(display.row(1) == "| b");
  BOOST_TEST(display.row(2) == "| c");
  type("\r");
  BOOST_REQUIRE(events.size() == 1U);
  BOOST_TEST(events[0].line == "say: a\nb\nc");
}

BOOST_FIXTURE_TEST_CASE(up_and_down_go_through_lines_then_history, fixture) {
  type("first\rsecond\rsecond\r");
  BOOST_TEST(history.entries().size() == 2U);  // a repetition is not kept
  type("draft");
  type(up);
  check("second", 6);
  type(up);
  check("first", 5);
  type(up);
  check("first", 5);
  type(down);
  type(down);
  check("draft", 5);
  type("\x15");
  type("ab\\\rcdef");
  type(up);
  check("ab\ncdef", 2);
  type(down);
  check("ab\ncdef", 5);
  type(up);
  type(up);
  check("second", 6);
}

BOOST_FIXTURE_TEST_CASE(long_lines_wrap, fixture) {
  type("0123456789012345678901234567");
  BOOST_TEST(display.row(0) == "> 012345678901234567");
  BOOST_TEST(display.row(1) == "8901234567");
  check_display(20, 6);
  type("\x01");
  BOOST_TEST(display.cursor_row() == 0);
  BOOST_TEST(display.cursor_column() == 2);
  type("x");
  BOOST_TEST(display.row(0) == "> x01234567890123456");
  check_display(20, 6);
  type("\x15\x0b");
  BOOST_TEST(display.row(0) == ">");
  BOOST_TEST(display.row(1) == "");
  type("\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5x\u65e5");  // the last does not fit in one column
  check_display(20, 6);
  BOOST_TEST(display.row(1) == "\u65e5");
}

BOOST_FIXTURE_TEST_CASE(texts_taller_than_the_screen_scroll, fixture) {
  for (int i = 0; i < 30; ++i) type("line " + std::to_string(i) + "\\\r");
  check_display(20, 6);
  BOOST_TEST(display.row(4) == "| line 29");
  for (int i = 0; i < 30; ++i) type(up);
  BOOST_TEST(display.row(0) == "> line 0");
  check_display(20, 6);
}

BOOST_FIXTURE_TEST_CASE(hidden_keys_still_edit, fixture) {
  type("half");
  display.write(editor.hide());
  BOOST_TEST(display.row(0) == "");
  for (const char c : std::string_view{" done"})
    for (const auto& reply : editor.feed(static_cast<unsigned char>(c))) BOOST_TEST(reply.output == "");
  display.write("the answer\r\n");
  display.write(editor.show());
  BOOST_TEST(display.row(0) == "the answer");
  BOOST_TEST(display.row(1) == "> half done");
  display.write(editor.hide());
  const auto replies = editor.feed(3);
  BOOST_REQUIRE(replies.size() == 1U);
  BOOST_TEST((replies[0].what == event::interrupt));
  BOOST_TEST(replies[0].output == "");
  check("", 0);
}

BOOST_FIXTURE_TEST_CASE(the_text_is_bounded, fixture) {
  std::string big(line_editor::max_text_bytes - 3, 'x');
  type(std::string{paste_begin} + big + std::string{paste_end});
  BOOST_TEST(editor.text().size() == big.size());
  type("abc");
  BOOST_TEST(editor.text().size() == line_editor::max_text_bytes);
  type("d");
  BOOST_TEST(editor.text().size() == line_editor::max_text_bytes);
  BOOST_TEST(display.bells == 1);
}

BOOST_AUTO_TEST_CASE(random_keys_keep_screen_and_text_together) {
  std::mt19937 random{17};
  const std::vector<std::string> keys{"a",
                                      "b",
                                      " ",
                                      "\u00e9",
                                      "\u65e5",
                                      "\U0001F600",
                                      "e\u0301",
                                      "\t",
                                      "\x7f",
                                      "\x1b[3~",
                                      "\x1b[D",
                                      "\x1b[C",
                                      "\x1b[A",
                                      "\x1b[B",
                                      "\x01",
                                      "\x05",
                                      "\x0b",
                                      "\x15",
                                      "\x17",
                                      "\x19",
                                      "\x0c",
                                      "\x1b"
                                      "b",
                                      "\x1b"
                                      "f",
                                      "\x1b"
                                      "d",
                                      "\\\r",
                                      "\r",
                                      "\x03",
                                      "\x04",
                                      "long word ",
                                      "\x1b[200~p\nq\x1b[201~",
                                      "\u0301"};
  for (int round = 0; round < 300; ++round) {
    const int columns = 8 + static_cast<int>(random() % 30);
    const int rows = 2 + static_cast<int>(random() % 8);
    fixture f;
    f.display = screen{columns, rows};
    f.editor.hide();
    f.editor.resize(columns, rows);
    f.display.write(f.editor.show());
    for (int i = 0; i < 120; ++i) {
      f.type(keys[random() % (random() % 3 == 0 ? keys.size() : 8)]);
      f.check_display(columns, rows);
      const std::string& text = f.editor.text();
      BOOST_REQUIRE(repaired_utf8(text) == text);
      BOOST_REQUIRE((f.editor.cursor() == text.size() || decode_char(text, f.editor.cursor()).valid));
    }
  }
}

BOOST_AUTO_TEST_CASE(random_bytes_never_crash) {
  std::mt19937 random{23};
  fixture f;
  std::size_t lines = 0;
  for (int i = 0; i < 200000; ++i) {
    if (random() % 500 == 0)
      f.editor.resize(static_cast<int>(random() % 100), static_cast<int>(random() % 50));
    if (random() % 700 == 0) f.editor.hide();
    if (random() % 600 == 0) f.editor.show();
    const std::string_view likely = "\x1b[ABCD~20;1\r";
    const auto byte =
        static_cast<unsigned char>(random() % 3 == 0 ? likely[random() % likely.size()] : random() % 256);
    for (const auto& reply : f.editor.feed(byte)) lines += reply.what == event::line ? 1 : 0;
    BOOST_REQUIRE(f.editor.cursor() <= f.editor.text().size());
    BOOST_REQUIRE(repaired_utf8(f.editor.text()) == f.editor.text());
  }
  BOOST_TEST(lines > 100U);
}

BOOST_AUTO_TEST_SUITE_END()
