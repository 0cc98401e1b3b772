#include "mpi/start_limit.hpp"

#include <algorithm>
#include <utility>

namespace fastserve::mpi {

start_limit::start_limit(std::chrono::milliseconds time, std::function<void()> expired) {
  thread_ = std::thread{[this, time, expired = std::move(expired)] {
    using clock = std::chrono::steady_clock;
    const auto end = clock::now() + time;
    std::unique_lock lock{mutex_};
    while (clock::now() < end) {
      if (changed_.wait_until(lock, std::min(end, clock::now() + period), [this] { return done_; })) return;
      if (look_) look_();
    }
    lock.unlock();
    expired();
  }};
}

void start_limit::watch(std::function<void()> look) {
  const std::lock_guard lock{mutex_};
  look_ = std::move(look);
}

void start_limit::done() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock{mutex_};
    done_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

}  // namespace fastserve::mpi
