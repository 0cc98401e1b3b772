#include "launch/terminal_probe.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

namespace fastserve::launch {

namespace {

constexpr std::array<std::string_view, 8> launchers{"mpirun", "mpiexec",       "orterun",    "prterun",
                                                    "orted",  "hydra_pmi_pro", "slurmstepd", "prted"};

std::string link_of(const std::string& path) {
  std::error_code error;
  const auto target = std::filesystem::read_symlink(path, error);
  return error ? std::string{} : target.string();
}

std::string fd_link(pid_t pid, int fd) {
  return link_of("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd));
}

/// "mpirun" for mpirun, mpirun.openmpi and the like.
std::string name_of(pid_t pid) {
  std::ifstream in{"/proc/" + std::to_string(pid) + "/comm"};
  std::string name;
  std::getline(in, name);
  return name;
}

bool is_launcher(pid_t pid) {
  const std::string name = name_of(pid);
  return std::any_of(launchers.begin(), launchers.end(),
                     [&name](std::string_view known) { return name.starts_with(known); });
}

pid_t parent_of(pid_t pid) {
  std::ifstream in{"/proc/" + std::to_string(pid) + "/stat"};
  std::string text;
  std::getline(in, text);
  // "pid (name) state ppid": the name may hold anything, so count from its end.
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos || end + 4 >= text.size()) return 0;
  return static_cast<pid_t>(std::strtol(text.c_str() + end + 4, nullptr, 10));
}

/// True when the process has the other end of a pipe that we read or write.
bool holds_pipe(pid_t pid, const std::string& pipe) {
  std::error_code error;
  std::filesystem::directory_iterator it{"/proc/" + std::to_string(pid) + "/fd", error};
  for (const std::filesystem::directory_iterator end; !error && it != end; it.increment(error))
    if (link_of(it->path().string()) == pipe) return true;
  return false;
}

/// The terminal that a process has as that descriptor, or empty.
std::string terminal_of(pid_t pid, int fd) {
  const std::string target = fd_link(pid, fd);
  if (!target.starts_with("/dev/")) return {};
  const int opened = ::open(target.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (opened < 0) return {};
  const bool tty = ::isatty(opened) == 1;
  ::close(opened);
  return tty ? target : std::string{};
}

/// A job in the background does not get what is typed. Unknown (no common session) counts as foreground.
bool in_foreground(pid_t pid, const std::string& device) {
  const int fd = ::open(device.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return false;
  const pid_t foreground = ::tcgetpgrp(fd);
  ::close(fd);
  return foreground < 0 || foreground == ::getpgid(pid);
}

/// The launcher behind a descriptor of ours: an ancestor with the other end of the pipe. A shell in between,
/// or a pipe of the user's own, is none.
pid_t launcher_behind(int fd) {
  constexpr int max_generations = 16;
  const std::string pipe = fd_link(::getpid(), fd);
  if (!pipe.starts_with("pipe:") && !pipe.starts_with("socket:")) return 0;
  pid_t pid = ::getppid();
  for (int i = 0; i < max_generations && pid > 1; ++i, pid = parent_of(pid))
    if (is_launcher(pid) && holds_pipe(pid, pipe)) return pid;
  return 0;
}

/// Output that a launcher may carry on to its own: through a pipe, or a pseudo-terminal that it made.
bool shows_on_terminal(int fd, pid_t launcher) {
  if (::isatty(fd) == 1) return launcher == 0 || !terminal_of(launcher, fd).empty();
  const pid_t carrier = launcher_behind(fd);
  return carrier > 0 && !terminal_of(carrier, fd).empty();
}

bool can_be_drawn_on() {
  const char* term = std::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view{term} != "dumb";
}

}  // namespace

terminal_facts find_terminal() {
  const pid_t feeder = ::isatty(STDIN_FILENO) == 1 ? 0 : launcher_behind(STDIN_FILENO);
  // A launcher whose own input has ended lets go of our stdin; its hold on stderr still tells.
  const pid_t launcher = feeder > 0 ? feeder : launcher_behind(STDERR_FILENO);
  const pid_t seat = feeder > 0 ? feeder : ::getpid();

  terminal_facts facts;
  facts.input_device = terminal_of(seat, STDIN_FILENO);
  facts.input_is_terminal = !facts.input_device.empty() && in_foreground(seat, facts.input_device);
  if (!facts.input_is_terminal) facts.input_device.clear();
  facts.output_is_terminal = shows_on_terminal(STDOUT_FILENO, launcher);
  facts.error_is_terminal = shows_on_terminal(STDERR_FILENO, launcher);

  const std::string target = fd_link(seat, STDIN_FILENO);
  facts.reason = "stdin";
  if (feeder > 0) facts.reason += " of " + name_of(feeder) + " (pid " + std::to_string(feeder) + ")";
  facts.reason += " is " + (target.empty() ? std::string{"closed"} : target);
  if (facts.input_is_terminal && facts.output_is_terminal)
    facts.mode = can_be_drawn_on() ? terminal_facts::style::interactive : terminal_facts::style::plain;
  return facts;
}

}  // namespace fastserve::launch
