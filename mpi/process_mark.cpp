#include "mpi/process_mark.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <optional>
#include <sstream>

namespace fastserve::mpi {

namespace {

// Machine, boot and namespace: where a PID means the same.
std::string place() {
  std::string boot;
  std::ifstream{"/proc/sys/kernel/random/boot_id"} >> boot;
  char space[64] = {};
  const auto length = ::readlink("/proc/self/ns/pid", space, sizeof space - 1);
  return boot + ' ' + (length > 0 ? std::string(space, static_cast<std::size_t>(length)) : std::string{"?"});
}

// When a process began, in clock ticks since boot; empty when it is no more (a dead one that nobody has
// waited for counts as that).
std::string start_of(const std::string& pid) {
  std::ifstream in{"/proc/" + pid + "/stat"};
  std::string text;
  std::getline(in, text);
  // The second field is a name in brackets that may hold anything.
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields{text.substr(name_end + 1)};
  std::string state;
  std::string field;
  fields >> state;
  constexpr int start_time = 22;  // proc(5), from 1
  for (int i = 4; i <= start_time; ++i) fields >> field;
  return fields && state != "Z" && state != "X" ? field : std::string{};
}

struct parts {
  std::string place;
  std::string pid;
  std::string start;
};

// Nothing for what own_process() did not write in this place.
std::optional<parts> read_here(const std::string& mark) {
  const auto start_at = mark.rfind(' ');
  if (start_at == std::string::npos || start_at == 0) return std::nullopt;
  const auto pid_at = mark.rfind(' ', start_at - 1);
  if (pid_at == std::string::npos) return std::nullopt;
  parts out{mark.substr(0, pid_at), mark.substr(pid_at + 1, start_at - pid_at - 1),
            mark.substr(start_at + 1)};
  constexpr std::size_t longest_pid = 9;
  if (out.place != place() || out.pid.empty() || out.pid.size() > longest_pid || out.start.empty() ||
      out.pid.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return out;
}

}  // namespace

std::string own_process() {
  const auto pid = std::to_string(::getpid());
  return place() + ' ' + pid + ' ' + start_of(pid);
}

bool end_process(const std::string& mark) {
  const auto what = read_here(mark);
  if (!what) return false;
  const auto number = static_cast<pid_t>(std::stol(what->pid));
  // The descriptor stands for one process: looked at after it was opened, the number cannot have been given
  // away.
  const int held = static_cast<int>(::syscall(SYS_pidfd_open, number, 0));
  if (start_of(what->pid) == what->start) {
    if (held >= 0)
      ::syscall(SYS_pidfd_send_signal, held, SIGKILL, nullptr, 0);
    else
      ::kill(number, SIGKILL);  // an old kernel
  }
  if (held >= 0) ::close(held);
  return true;
}

bool process_is_gone(const std::string& mark) {
  const auto what = read_here(mark);
  return what && start_of(what->pid) != what->start;
}

}  // namespace fastserve::mpi
