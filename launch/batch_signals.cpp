#include "launch/batch_signals.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>

namespace fastserve::launch {

namespace {

constexpr auto same_signal_again = std::chrono::seconds{1};

sigset_t drain_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&set, number);
  return set;
}

}  // namespace

void batch_signals::block() {
  const auto set = drain_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

batch_signals::batch_signals(std::function<void(int)> first, std::function<void(int)> second)
    : first_{std::move(first)}, second_{std::move(second)} {
  block();
  const auto set = drain_signals();
  signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (signals_ < 0 || stop_ < 0) throw std::runtime_error("signals cannot be watched");
  thread_ = std::thread{[this] { watch(); }};
}

batch_signals::~batch_signals() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto put = ::write(stop_, &one, sizeof one);
  thread_.join();
  ::close(signals_);
  ::close(stop_);
}

void batch_signals::watch() {
  using clock = std::chrono::steady_clock;
  std::optional<clock::time_point> asked;
  int first = 0;
  for (;;) {
    pollfd waiting[2] = {{signals_, POLLIN, 0}, {stop_, POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0) continue;
    if (waiting[1].revents != 0) return;
    signalfd_siginfo what{};
    if (::read(signals_, &what, sizeof what) != static_cast<ssize_t>(sizeof what)) continue;
    const auto number = static_cast<int>(what.ssi_signo);
    if (!asked) {
      asked = clock::now();
      first = number;
      first_(number);
    } else if (number != first || clock::now() - *asked >= same_signal_again) {
      second_(number);
    }
  }
}

const char* name_of_signal(int number) {
  switch (number) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "a signal";
  }
}

}  // namespace fastserve::launch
