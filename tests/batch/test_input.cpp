#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <random>
#include <stdexcept>

#include "../support/temporary_folder.hpp"
#include "launch/batch_input.hpp"

using namespace fastserve::launch;

namespace {

struct seen {
  std::string text;
  std::uint64_t number;
  input_position end;
  bool too_long;
};

std::vector<seen> lines_of(batch_input& in) {
  std::vector<seen> out;
  input_line line;
  while (in.next(line)) {
    out.push_back({std::string{line.text}, line.number, line.end, line.too_long});
    BOOST_TEST(line.bytes > 0U);
  }
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(input_suite)

BOOST_AUTO_TEST_CASE(lines_blanks_and_no_last_newline) {
  const temporary_folder folder;
  batch_input in{folder.write("in", "one\n\n  \t\r\ntwo\r\n\nthree")};
  const auto lines = lines_of(in);
  BOOST_REQUIRE(lines.size() == 3U);
  BOOST_TEST(lines[0].text == "one");
  BOOST_TEST(lines[1].text == "two\r");
  BOOST_TEST(lines[1].number == 4U);
  BOOST_TEST(lines[2].text == "three");
  BOOST_TEST(lines[2].number == 6U);
  BOOST_TEST(lines[2].end.offset_bytes == 21U);
  input_line none;
  BOOST_TEST(!in.next(none));
}

BOOST_AUTO_TEST_CASE(empty_and_blank_files) {
  const temporary_folder folder;
  for (const char* text : {"", "\n", "\n\n  \n", "   "}) {
    batch_input in{folder.write("in", text)};
    BOOST_TEST(lines_of(in).empty());
  }
}

BOOST_AUTO_TEST_CASE(reading_goes_on_at_the_end_of_any_line) {
  std::mt19937 random{3};
  const temporary_folder folder;
  std::string text;
  for (int i = 0; i < 300; ++i) {
    // Some lines are longer than what is read at once.
    text.append(i % 60 == 7 ? 1500000 + random() % 1000 : random() % 40, static_cast<char>('a' + i % 26));
    text += '\n';
  }
  batch_input in{folder.write("in", text)};
  const auto all = lines_of(in);
  for (std::size_t from = 0; from < all.size(); from += 17) {
    in.seek(all[from].end);
    const auto rest = lines_of(in);
    BOOST_REQUIRE(rest.size() == all.size() - from - 1);
    for (std::size_t i = 0; i < rest.size(); ++i) {
      BOOST_TEST((rest[i].text == all[from + 1 + i].text));
      BOOST_TEST(rest[i].number == all[from + 1 + i].number);
      BOOST_TEST((rest[i].end == all[from + 1 + i].end));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_line_that_is_too_long_is_skipped_and_counted) {
  const temporary_folder folder;
  const auto most = batch_input::most_line_bytes;
  for (const std::size_t length : {most, most + 1, 3 * most}) {
    for (const bool ended : {true, false}) {
      batch_input in{folder.write("in", "a\n" + std::string(length, 'x') + (ended ? "\nb\n" : ""))};
      const auto lines = lines_of(in);
      BOOST_REQUIRE(lines.size() == (ended ? 3U : 2U));
      BOOST_TEST(lines[1].too_long == (length > most));
      BOOST_TEST(lines[1].number == 2U);
      BOOST_TEST(lines[1].end.offset_bytes == 2 + length + (ended ? 1 : 0));
      if (ended) BOOST_TEST(lines[2].text == "b");
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_file_is_refused) {
  const temporary_folder folder;
  BOOST_CHECK_THROW(batch_input{folder / "none"}, std::runtime_error);
  BOOST_CHECK_THROW(batch_input{folder / "."}, std::runtime_error);
  BOOST_REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  BOOST_CHECK_THROW(batch_input{folder / "pipe"}, std::runtime_error);
}

BOOST_AUTO_TEST_CASE(a_file_that_shrinks_is_noticed_and_one_that_grows_is_not_read_on) {
  const temporary_folder folder;
  const auto path = folder.write("in", std::string(1000, 'a') + "\n");
  batch_input grows{path};
  folder.write("in", std::string(1000, 'a') + "\nmore\n");
  BOOST_TEST(lines_of(grows).size() == 1U);
  batch_input shrinks{path};
  std::filesystem::resize_file(path, 10);
  input_line line;
  BOOST_CHECK_THROW(shrinks.next(line), std::runtime_error);
}

BOOST_AUTO_TEST_CASE(facts_tell_files_apart) {
  const temporary_folder folder;
  const batch_input a{folder.write("a", "one\ntwo\n")};
  const batch_input b{folder.write("b", "one\ntwu\n")};
  BOOST_TEST(a.facts().content != b.facts().content);
  BOOST_TEST(a.facts().size_bytes == 8U);
}

BOOST_AUTO_TEST_SUITE_END()
