#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "../support/temporary_folder.hpp"
#include "launch/prompt_history.hpp"

using fastserve::launch::prompt_history;

namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(prompt_history_suite)

BOOST_AUTO_TEST_CASE(entries_come_back) {
  const temporary_folder folder;
  const auto path = folder.path() / "deep" / "fastserve" / "history";
  {
    prompt_history history;
    BOOST_REQUIRE(history.open(path));
    history.add("one");
    history.add("");
    history.add("one");
    history.add("two\nlines \\n \\");
    history.add("one");
  }
  struct stat facts {};
  BOOST_REQUIRE(::stat(path.c_str(), &facts) == 0);
  BOOST_TEST((facts.st_mode & 0777U) == 0600U);
  BOOST_REQUIRE(::stat(path.parent_path().c_str(), &facts) == 0);
  BOOST_TEST((facts.st_mode & 0777U) == 0700U);
  prompt_history again;
  BOOST_REQUIRE(again.open(path));
  BOOST_TEST(again.entries() == (std::vector<std::string>{"one", "two\nlines \\n \\", "one"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_file_is_bounded) {
  const temporary_folder folder;
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "entry " + std::to_string(i) + "\n";
  const std::string path = folder.write("history", text);
  prompt_history history;
  BOOST_REQUIRE(history.open(path));
  BOOST_TEST(history.entries().size() == prompt_history::max_entries);
  BOOST_TEST(history.entries().back() == "entry 4999");
  BOOST_TEST(content(path).size() < text.size() / 4);
  history.add(std::string(prompt_history::max_entry_bytes + 1, 'x'));
  BOOST_TEST(history.entries().back() == "entry 4999");
  for (int i = 0; i < 10; ++i) history.add("more " + std::to_string(i));
  BOOST_TEST(history.entries().size() == prompt_history::max_entries);
}

BOOST_AUTO_TEST_CASE(a_hostile_file_reaches_no_terminal) {
  const temporary_folder folder;
  const std::string path =
      folder.write("history", "a\x1b[2Jb\x07\n\xff\xfe\n" + std::string(100000, 'x') + "\n");
  prompt_history history;
  BOOST_REQUIRE(history.open(path));
  BOOST_TEST(history.entries() == (std::vector<std::string>{"a[2Jb", "\ufffd\ufffd"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(an_unusable_place_is_no_error) {
  const temporary_folder folder;
  prompt_history history;
  BOOST_TEST(!history.open({}));
  BOOST_TEST(!history.open("/proc/nowhere/history"));
  BOOST_TEST(!history.open(folder.path()));  // a folder
  std::filesystem::create_symlink("/dev/null", folder.path() / "link");
  BOOST_TEST(!history.open(folder.path() / "link"));
  history.add("kept in memory");
  BOOST_TEST(history.entries().size() == 1U);
}

BOOST_AUTO_TEST_CASE(the_place_follows_the_environment) {
  ::setenv("XDG_STATE_HOME", "/some/state", 1);
  BOOST_TEST(prompt_history::default_path() == "/some/state/fastserve/history");
  ::setenv("XDG_STATE_HOME", "relative", 1);
  ::setenv("HOME", "/home/x", 1);
  BOOST_TEST(prompt_history::default_path() == "/home/x/.local/state/fastserve/history");
  ::unsetenv("HOME");
  BOOST_TEST(prompt_history::default_path().empty());
}

BOOST_AUTO_TEST_SUITE_END()
