#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

/// A shell command at a terminal of its own, driven like a user would.
class pseudo_terminal {
 public:
  explicit pseudo_terminal(const std::string& command, const char* term = "xterm") {
    winsize window{30, 100, 0, 0};
    if (::openpty(&master_, &slave_, nullptr, nullptr, &window) != 0) throw std::runtime_error{"no pty"};
    child_ = ::fork();
    if (child_ < 0) throw std::runtime_error{"no fork"};
    if (child_ == 0) {
      ::close(master_);
      ::login_tty(slave_);
      ::setenv("TERM", term, 1);
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
  }
  pseudo_terminal(const pseudo_terminal&) = delete;
  pseudo_terminal& operator=(const pseudo_terminal&) = delete;
  ~pseudo_terminal() {
    if (child_ > 0) {
      ::kill(-child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    ::close(master_);
    ::close(slave_);
  }

  void type(std::string_view bytes) const {
    if (::write(master_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      throw std::runtime_error{"pty does not take input"};
  }

  /// As a user who drags the window; who is in the foreground gets SIGWINCH, nobody else.
  void resize(unsigned short columns, unsigned short rows) const {
    const winsize window{rows, columns, 0, 0};
    if (::ioctl(master_, TIOCSWINSZ, &window) != 0) throw std::runtime_error{"pty cannot be resized"};
  }

  /// Waits until the output holds `text`; false after the time.
  bool wait_for(std::string_view text, std::chrono::milliseconds limit = std::chrono::seconds{20}) {
    return poll_until(limit, [&] {
      read_some();
      return output.find(text) != std::string::npos;
    });
  }

  bool wait_for_modes(bool cooked, std::chrono::milliseconds limit = std::chrono::seconds{5}) const {
    return poll_until(limit, [&] { return is_cooked() == cooked; });
  }

  /// Line buffering, echo and signals are all on, or all off.
  bool is_cooked() const {
    constexpr tcflag_t all = ICANON | ECHO | ISIG | IEXTEN;
    termios modes{};
    if (::tcgetattr(slave_, &modes) != 0) throw std::runtime_error{"no modes"};
    if ((modes.c_lflag & all) == all) return true;
    if ((modes.c_lflag & all) == 0) return false;
    throw std::runtime_error{"modes are mixed"};
  }

  /// The command's exit status as waitpid gives it; -1 when it does not end in time.
  int wait_for_end() {
    int status = -1;
    const bool ended = poll_until(std::chrono::seconds{30}, [&] {
      read_some();
      return ::waitpid(child_, &status, WNOHANG) == child_;
    });
    read_some();
    if (!ended) return -1;
    child_ = -1;
    return status;
  }

  std::string output;

 private:
  template <typename Condition>
  static bool poll_until(std::chrono::milliseconds limit, Condition condition) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    return true;
  }

  void read_some() {
    char room[4096];
    pollfd ready{master_, POLLIN, 0};
    while (::poll(&ready, 1, 0) == 1 && (ready.revents & POLLIN) != 0) {
      const ssize_t n = ::read(master_, room, sizeof room);
      if (n <= 0) return;
      output.append(room, static_cast<std::size_t>(n));
    }
  }

  int master_ = -1;
  int slave_ = -1;
  pid_t child_ = -1;
};
