#include "mpi/start_limit.hpp"

#include <utility>

namespace fastserve::mpi {

start_limit::start_limit(std::chrono::milliseconds time, std::function<void()> expired) {
  thread_ = std::thread{[this, time, expired = std::move(expired)] {
    std::unique_lock lock{mutex_};
    if (changed_.wait_for(lock, time, [this] { return done_; })) return;
    lock.unlock();
    expired();
  }};
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
