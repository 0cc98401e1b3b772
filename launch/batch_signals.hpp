#pragma once

#include <functional>
#include <thread>

namespace fastserve::launch {

/// SIGINT, SIGTERM and SIGUSR1 as requests to drain a batch.
///
/// Launchers send a signal to every rank, and only the leader can drain: the others must not die of it. So
/// every rank blocks them before it starts its first thread, and the leader alone reads them.
class batch_signals {
 public:
  /// For this thread and all that it starts.
  static void block();

  /// `first` is called with the first signal, `second` with each other one, and with the same one when it
  /// comes a second later or more (launchers and Slurm pass it on by two ways). Both on a thread of this
  /// object.
  batch_signals(std::function<void(int)> first, std::function<void(int)> second);
  batch_signals(const batch_signals&) = delete;
  batch_signals& operator=(const batch_signals&) = delete;
  ~batch_signals();

 private:
  void watch();

  std::function<void(int)> first_;
  std::function<void(int)> second_;
  int signals_ = -1;  // readable when one has come
  int stop_ = -1;     // readable when the object goes
  std::thread thread_;
};

/// "SIGTERM"
const char* name_of_signal(int number);

}  // namespace fastserve::launch
