#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <functional>

#include "../support/temporary_folder.hpp"
#include "launch/progress_bar.hpp"
#include "launch/status_line.hpp"
#include "launch/units.hpp"
#include "screen.hpp"

using namespace fastserve::launch;
using namespace std::chrono_literals;

namespace {

/// What goes to stderr meanwhile.
std::string stderr_of(const std::function<void()>& what) {
  const temporary_folder folder;
  std::fflush(stderr);
  const int kept = ::dup(STDERR_FILENO);
  std::FILE* file = std::fopen((folder / "err").c_str(), "w");
  ::dup2(::fileno(file), STDERR_FILENO);
  what();
  std::fflush(stderr);
  ::dup2(kept, STDERR_FILENO);
  ::close(kept);
  std::fclose(file);
  return folder.read("err");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(progress_bar_suite)

BOOST_AUTO_TEST_CASE(numbers_for_people) {
  BOOST_TEST(format_bytes(0) == "0 B");
  BOOST_TEST(format_bytes(999) == "999 B");
  BOOST_TEST(format_bytes(1000) == "1.00 kB");
  BOOST_TEST(format_bytes(999999) == "1.00 MB");
  BOOST_TEST(format_bytes(12345678) == "12.3 MB");
  BOOST_TEST(format_bytes(~std::uint64_t{0}) == "18.4 EB");
  BOOST_TEST(format_count(0) == "0");
  BOOST_TEST(format_count(-1234567) == "-1,234,567");
  BOOST_TEST(format_count(123) == "123");
  BOOST_TEST(format_measure(0.1234) == "0.123");
  BOOST_TEST(format_measure(12.345) == "12.3");
  BOOST_TEST(format_measure(12345.6) == "12,346");
  BOOST_TEST(format_measure(1.0 / 0.0) == "-");
  BOOST_TEST(counted(0, "rank") == "0 ranks");
  BOOST_TEST(counted(1, "rank") == "1 rank");
  BOOST_TEST(counted(1234, "rank") == "1,234 ranks");
}

BOOST_AUTO_TEST_CASE(it_fills_and_goes) {
  const progress_bar::time start{};
  progress_bar bar{"loading weights", 4'000'000'000, 80, start};
  screen display{80, 2};
  display.write(bar.update(1'000'000'000, start + 500ms));
  BOOST_TEST(display.row(0).starts_with("loading weights [#"));
  BOOST_TEST(display.row(0).find(" 25%  1.00 GB of 4.00 GB  2.00 GB/s") != std::string::npos);
  BOOST_TEST(bar.update(1'100'000'000, start + 550ms) == "");  // too soon
  BOOST_TEST(bar.update(1'100'000'000, start + 600ms) != "");
  display.write(bar.update(4'000'000'000, start + 601ms));  // the end is always shown
  BOOST_TEST(display.row(0).find("100%") != std::string::npos);
  BOOST_TEST(display.row(0).find('-') == std::string::npos);
  display.write(bar.finish());
  BOOST_TEST(display.row(0) == "");
  BOOST_TEST(bar.finish() == "");
  BOOST_TEST(bar.summary(4'000'000'000, start + 2s) == "read 4.00 GB in 2.00 s, 2.00 GB/s");
  BOOST_TEST(display.errors == 0);
}

BOOST_AUTO_TEST_CASE(it_never_wraps) {
  const progress_bar::time start{};
  for (int columns = 1; columns < 120; ++columns) {
    screen display{columns, 2};
    progress_bar bar{"loading weights", 123'456'789'012, columns, start};
    for (int i = 0; i <= 10; ++i)
      display.write(bar.update(12'345'678'901ULL * static_cast<unsigned>(i), start + i * 1s));
    BOOST_TEST(display.wraps == 0);
    BOOST_TEST(display.cursor_row() == 0);
  }
}

BOOST_AUTO_TEST_CASE(odd_totals) {
  const progress_bar::time start{};
  progress_bar nothing{"x", 0, 80, start};
  BOOST_TEST(nothing.update(0, start).find("100%") != std::string::npos);
  progress_bar more{"x", 10, 80, start};
  BOOST_TEST(more.update(1000, start).find("100%") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_line_makes_room_for_what_is_said) {
  namespace line = status_line;
  BOOST_TEST(stderr_of([] { line::say("a\n"); }) == "a\n");
  BOOST_TEST(stderr_of([] {
               line::draw("\r50%\x1b[K");
               line::draw("");
               line::say("a\n");
               line::say("b\n");
               line::draw("\r60%\x1b[K");
               line::clear();
               line::clear();
             }) == "\r50%\x1b[K\r\x1b[Ka\nb\n\r60%\x1b[K\r\x1b[K");
  // Another process drew, and died.
  BOOST_TEST(stderr_of([] {
               line::inherit();
               line::say("a\n");
             }) == "\r\x1b[Ka\n");
}

BOOST_AUTO_TEST_SUITE_END()
