#include "launch/terminal.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <stdexcept>

namespace fastserve::launch {

namespace {

/// Signals that end the process; each is passed on after the modes are back.
constexpr std::array<int, 11> fatal_signals{SIGHUP, SIGINT,  SIGQUIT, SIGILL,  SIGABRT, SIGBUS,
                                            SIGFPE, SIGSEGV, SIGPIPE, SIGTERM, SIGXCPU};

// What the signal handler needs: plain data, written before the handlers are installed.
std::atomic<int> raw_fd{-1};
termios saved_modes{};
std::array<struct sigaction, fatal_signals.size()> earlier_actions{};

/// We are a background process group of the launcher's session: setting modes would stop us with SIGTTOU
/// unless that is blocked. Safe in a signal handler.
bool set_modes(int fd, const termios& modes) noexcept {
  sigset_t tty_output;
  sigset_t before;
  sigemptyset(&tty_output);
  sigaddset(&tty_output, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &tty_output, &before);
  int result = -1;
  do {
    result = ::tcsetattr(fd, TCSADRAIN, &modes);
  } while (result != 0 && errno == EINTR);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result == 0;
}

extern "C" void restore_and_pass_on(int signal) {
  const int saved_errno = errno;
  const int fd = raw_fd.exchange(-1);
  if (fd >= 0) set_modes(fd, saved_modes);
  for (std::size_t i = 0; i < fatal_signals.size(); ++i)
    if (fatal_signals[i] == signal) ::sigaction(signal, &earlier_actions[i], nullptr);
  // Blocked until we return; then the earlier action takes it.
  ::raise(signal);
  errno = saved_errno;
}

void install_handlers() {
  struct sigaction action {};
  action.sa_handler = restore_and_pass_on;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < fatal_signals.size(); ++i) {
    ::sigaction(fatal_signals[i], nullptr, &earlier_actions[i]);
    const bool ignored =
        (earlier_actions[i].sa_flags & SA_SIGINFO) == 0 && earlier_actions[i].sa_handler == SIG_IGN;
    if (!ignored) ::sigaction(fatal_signals[i], &action, nullptr);
  }
}

/// Handlers that came after ours stay.
void remove_handlers() noexcept {
  for (std::size_t i = 0; i < fatal_signals.size(); ++i) {
    struct sigaction now {};
    ::sigaction(fatal_signals[i], nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == restore_and_pass_on)
      ::sigaction(fatal_signals[i], &earlier_actions[i], nullptr);
  }
}

/// The watching process: waits for the pipe to end. A byte means that all is well; an end without one means
/// that we died raw. Only async-signal-safe calls: we are a fork of a process with threads.
[[noreturn]] void watch(int pipe_end, int device) {
  ::setsid();  // no signals of the job, and no SIGTTOU
  // Keep two descriptors: the launcher waits until every copy of our stdout is closed.
  pipe_end = ::fcntl(pipe_end, F_DUPFD, 10);
  device = ::fcntl(device, F_DUPFD, 10);
  ::dup2(pipe_end, 0);
  ::dup2(device, 1);
  if (::close_range(2, ~0U, 0) != 0)
    for (int fd = 2; fd < 4096; ++fd) ::close(fd);
  for (std::size_t i = 0; i < fatal_signals.size(); ++i) ::signal(fatal_signals[i], SIG_IGN);
  char byte = 0;
  ssize_t n = 0;
  do {
    n = ::read(0, &byte, 1);
  } while (n < 0 && errno == EINTR);
  if (n == 0) ::tcsetattr(1, TCSADRAIN, &saved_modes);
  ::_exit(0);
}

}  // namespace

struct terminal::state {
  int fd = -1;
  bool raw = false;
  int watcher_pipe = -1;
  pid_t watcher = -1;

  void start_watcher() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return;  // the handlers alone must do
    watcher = ::fork();
    if (watcher == 0) {
      // Another fork, so that nobody has to wait for it and no SIGCHLD comes later.
      ::close(ends[1]);
      if (::fork() == 0) watch(ends[0], fd);
      ::_exit(0);
    }
    ::close(ends[0]);
    if (watcher < 0) {
      ::close(ends[1]);
      return;
    }
    while (::waitpid(watcher, nullptr, 0) < 0 && errno == EINTR) {
    }
    watcher_pipe = ends[1];
  }

  void dismiss_watcher() noexcept {
    if (watcher_pipe < 0) return;
    const char done = 1;
    const ssize_t ignored = ::write(watcher_pipe, &done, 1);
    static_cast<void>(ignored);  // a watcher that is gone needs no telling
    ::close(watcher_pipe);
    watcher_pipe = -1;
  }
};

terminal::terminal(const std::string& device) : state_{std::make_unique<state>()} {
  state_->fd = ::open(device.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (state_->fd < 0 || ::isatty(state_->fd) != 1) {
    if (state_->fd >= 0) ::close(state_->fd);
    throw std::runtime_error{device + ": cannot be used as a terminal"};
  }
}

terminal::~terminal() {
  restore();
  ::close(state_->fd);
}

void terminal::raw() {
  if (state_->raw) return;
  if (raw_fd.load() >= 0) throw std::logic_error{"another terminal is raw"};
  termios modes{};
  if (::tcgetattr(state_->fd, &modes) != 0) throw std::runtime_error{"the terminal's modes cannot be read"};
  saved_modes = modes;
  // Output processing stays: everybody's line ends keep working. So does Enter as \n.
  modes.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG | IEXTEN);
  modes.c_iflag &= ~static_cast<tcflag_t>(IXON);
  modes.c_cc[VMIN] = 1;
  modes.c_cc[VTIME] = 0;
  state_->start_watcher();
  raw_fd = state_->fd;
  install_handlers();
  state_->raw = true;
  if (set_modes(state_->fd, modes)) return;
  restore();
  throw std::runtime_error{"the terminal's modes cannot be set"};
}

void terminal::restore() noexcept {
  if (!state_->raw) return;
  state_->raw = false;
  if (raw_fd.exchange(-1) >= 0) set_modes(state_->fd, saved_modes);
  remove_handlers();
  state_->dismiss_watcher();
}

terminal::size terminal::measure() const { return size_of_terminal(state_->fd); }

terminal::size size_of_terminal(int fd) {
  winsize window{};
  if (::ioctl(fd, TIOCGWINSZ, &window) != 0) return {};
  return {window.ws_col, window.ws_row};
}

}  // namespace fastserve::launch
