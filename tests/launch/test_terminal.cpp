#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "../support/temporary_folder.hpp"
#include "pseudo_terminal.hpp"

namespace {

const std::string probe = FASTSERVE_PROBE;
const std::string ranks = FASTSERVE_SOURCE_DIR "/scripts/mpirun_here.sh 2 ";

bool has_mpirun() {
  static const bool found = std::system("command -v mpirun >/dev/null 2>&1") == 0;
  if (!found) std::cout << "skipped: mpirun is not installed\n";
  return found;
}

struct with_mpirun {
  boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id) const {
    return has_mpirun();
  }
};

/// Keys arrive as bytes while the program reads, and the modes are back when it has ended in this way.
void check_keys(const std::string& command, char end) {
  // The shell outlives the program, as a user's does: when the session's leader ends, the terminal is hung
  // up, and who would set its modes may come too late.
  pseudo_terminal seat{command + "; sleep 0.2"};
  BOOST_TEST_CONTEXT(command << " ended by " << end) {
    BOOST_TEST(seat.is_cooked());
    BOOST_REQUIRE_MESSAGE(seat.wait_for("ready"), seat.output);
    BOOST_TEST(seat.output.find("mode interactive error 1") != std::string::npos);
    BOOST_TEST(seat.output.find("columns 100 rows 30") != std::string::npos);
    BOOST_TEST(!seat.is_cooked());
    seat.type("z\x03\x1a\x1c\xc3\xa9\n");
    BOOST_TEST(seat.wait_for("<7a><03><1a><1c><c3><a9><0a>"), seat.output);
    seat.type(std::string(1, end));
    BOOST_TEST(seat.wait_for_end() != -1);
    BOOST_TEST(seat.wait_for_modes(true));
    if (end == 'q') BOOST_TEST(seat.output.find("bye") != std::string::npos);
  }
}

void check_mode(const std::string& command, const std::string& expected, const char* term = "xterm") {
  pseudo_terminal seat{command, term};
  BOOST_TEST_CONTEXT(command) {
    BOOST_TEST(seat.wait_for("bye"));
    BOOST_TEST(seat.output.find("mode " + expected) != std::string::npos, seat.output);
    BOOST_TEST(seat.is_cooked());
  }
}

void check_file_mode(const std::string& command, const std::string& expected) {
  const temporary_folder folder;
  const std::string path = folder.write("out", "");
  pseudo_terminal seat{command + " > " + path};
  BOOST_TEST(seat.wait_for_end() != -1);
  std::ifstream in{path};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  BOOST_TEST(text.starts_with("mode " + expected), "the file: " << text << ", the terminal: " << seat.output);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(terminal)

BOOST_AUTO_TEST_CASE(alone_keys_are_bytes_and_modes_come_back) {
  for (const char end : {'q', 't', 's', 'a', 'x', 'k'}) check_keys(probe, end);
}

BOOST_AUTO_TEST_CASE(alone_modes_are_detected) {
  check_mode(probe, "plain", "dumb");
  check_mode(probe, "plain", "");
  check_mode("echo x | " + probe, "script error 1");
  check_mode(probe + " < /dev/null", "script error 1");
  check_mode(probe + " 2>/dev/null | cat", "script error 0");
  check_mode("sleep 1 | cat | " + probe, "script");
  check_file_mode(probe, "script error 1");
}

BOOST_AUTO_TEST_CASE(a_died_signal_is_still_seen) {
  pseudo_terminal seat{"exec " + probe};
  BOOST_REQUIRE(seat.wait_for("ready"));
  seat.type("t");
  const int status = seat.wait_for_end();
  BOOST_TEST(WIFSIGNALED(status));
  BOOST_TEST(WTERMSIG(status) == SIGTERM);
}

BOOST_AUTO_TEST_CASE(under_mpirun_keys_are_bytes_and_modes_come_back,
                     *boost::unit_test::precondition(with_mpirun{})) {
  for (const char end : {'q', 't', 'x', 'k'}) check_keys(ranks + probe, end);
}

BOOST_AUTO_TEST_CASE(under_mpirun_modes_are_detected, *boost::unit_test::precondition(with_mpirun{})) {
  check_mode(ranks + probe, "plain", "dumb");
  check_mode("echo x | " + ranks + probe, "script error 1");
  check_mode(ranks + probe + " < /dev/null", "script error 1");
  check_mode(ranks + "sh -c 'echo x | " + probe + "'", "script");
  check_mode(ranks + probe + " & wait", "script");  // nobody types to a job in the background
  check_file_mode(ranks + probe, "script error 1");
  check_file_mode("echo x | " + ranks + probe, "script error 1");
}

// A conversation with the demo model.
void check_session(const std::string& launcher) {
  pseudo_terminal seat{launcher + FASTSERVE_PROGRAM
                       " console --model " FASTSERVE_DEMO_MODEL
                       " --threads 1 --no-history --temperature 0 --max-tokens 400 --ignore-eos"};
  BOOST_REQUIRE_MESSAGE(seat.wait_for("is ready."), seat.output);
  BOOST_REQUIRE(seat.wait_for_modes(false));

  // What is being typed is drawn anew when the window changes, without another key.
  seat.type("Once upon");
  BOOST_TEST(seat.wait_for("Once upon"), seat.output);
  seat.output.clear();
  seat.resize(30, 20);
  BOOST_TEST(seat.wait_for("> Once upon"), seat.output);

  // A prompt that waited for another one's answer stands above its own.
  seat.output.clear();
  seat.type(" a time\nROMEO:\n");
  BOOST_TEST(seat.wait_for("\n> ROMEO:\r\n"), seat.output);

  seat.type("\x03\x04");
  BOOST_TEST(seat.wait_for_end() != -1);
  BOOST_TEST(seat.wait_for_modes(true));
}

BOOST_AUTO_TEST_CASE(a_session_alone) { check_session(""); }

BOOST_AUTO_TEST_CASE(a_session_under_mpirun, *boost::unit_test::precondition(with_mpirun{})) {
  check_session(ranks);
}

BOOST_AUTO_TEST_SUITE_END()
