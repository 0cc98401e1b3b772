#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace fastserve::kernels::cpu {

/// The OpenMP threads of one executor. Always the same number: libgomp ends and starts threads when it
/// changes. Call from one thread only, each time the same: libgomp keeps a pool per caller.
class thread_team {
 public:
  explicit thread_team(int threads) : threads_{std::max(threads, 1)} {}

  int size() const { return threads_; }

  /// work(thread, threads) on every thread, or on the caller alone when `worthwhile` is false: a parallel
  /// region costs microseconds. `work` must not throw.
  template <class Work>
  void run(bool worthwhile, Work&& work) const {
    if (!worthwhile || threads_ == 1) {
      work(0, 1);
      return;
    }
#pragma omp parallel num_threads(threads_)
    work(omp_get_thread_num(), omp_get_num_threads());
  }

  /// Inside run(): waits for the other threads.
  static void barrier() {
#pragma omp barrier
  }

 private:
  int threads_;
};

/// The part of [0, count) that thread `thread` of `threads` takes.
struct share {
  std::int64_t first;
  std::int64_t last;
  share(std::int64_t count, int thread, int threads)
      : first{count * thread / threads}, last{count * (thread + 1) / threads} {}
};

}  // namespace fastserve::kernels::cpu
