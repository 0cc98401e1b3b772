#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace fastserve::mpi {

/// Calls `expired` from a thread of its own unless done() came before the time was up. For what may hang for
/// ever with nobody to tell: MPI_Init and the first collectives, when a rank dies in them.
class start_limit {
 public:
  static constexpr std::chrono::milliseconds period{200};

  start_limit(std::chrono::milliseconds time, std::function<void()> expired);
  ~start_limit() { done(); }
  start_limit(const start_limit&) = delete;
  start_limit& operator=(const start_limit&) = delete;

  /// Until then `look` is called every `period`, too, and not any more once this returned for another one.
  void watch(std::function<void()> look);
  /// After it returns `expired` is not called any more, and is not running.
  void done();

 private:
  std::mutex mutex_;
  std::function<void()> look_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace fastserve::mpi
