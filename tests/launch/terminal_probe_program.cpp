// Says what it finds its terminal to be, then reads keys and says which bytes came. For test_terminal.cpp.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <stdexcept>

#include "launch/terminal.hpp"
#include "launch/terminal_probe.hpp"

using namespace fastserve::launch;

namespace {

void say(const char* format, int value) {
  std::printf(format, value);
  std::fflush(stdout);
}

const char* name_of(terminal_facts::style mode) {
  switch (mode) {
    case terminal_facts::style::script:
      return "script";
    case terminal_facts::style::plain:
      return "plain";
    case terminal_facts::style::interactive:
      return "interactive";
  }
  return "?";
}

void end_by(char how) {
  switch (how) {
    case 'k':
      ::kill(::getpid(), SIGKILL);
      break;
    case 't':
      ::raise(SIGTERM);
      break;
    case 's':
      ::raise(SIGSEGV);
      break;
    case 'a':
      std::abort();
    case 'x':
      throw std::runtime_error{"thrown while raw"};
    default:
      break;
  }
}

void read_keys(const terminal_facts& facts) {
  terminal device{facts.input_device};
  device.raw();
  const terminal::size size = device.measure();
  say("columns %d", size.columns);
  say(" rows %d ready\n", size.rows);
  unsigned char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) == 1 && byte != 'q') {
    say("<%02x>", byte);
    end_by(static_cast<char>(byte));
  }
}

}  // namespace

int main() {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank != nullptr && std::atoi(rank) > 0) return 0;
  const terminal_facts facts = find_terminal();
  std::printf("mode %s error %d: %s\n", name_of(facts.mode), facts.error_is_terminal ? 1 : 0,
              facts.reason.c_str());
  std::fflush(stdout);
  try {
    if (facts.mode == terminal_facts::style::interactive) read_keys(facts);
  } catch (const std::runtime_error& error) {
    std::printf("caught %s\n", error.what());
  }
  std::printf("bye\n");
  return 0;
}
