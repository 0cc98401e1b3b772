#pragma once

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace fastserve::kernels::cpu {

/// The OpenMP threads of one executor. Always the same number: libgomp ends and starts threads when it
/// changes. Call from one thread only, each time the same: libgomp keeps a pool per caller.
class thread_team {
 public:
  /// Nanoseconds that threads wait for others are added to `waited`, unless that is null.
  explicit thread_team(int threads, std::atomic<std::int64_t>* waited = nullptr)
      : threads_{std::max(threads, 1)}, waited_{waited} {}

  int size() const { return threads_; }

  /// work(thread, threads) on every thread, or on the caller alone when `worthwhile` is false: a parallel
  /// region costs microseconds. `work` must not throw.
  template <class Work>
  void run(bool worthwhile, Work&& work) const {
    if (!worthwhile || threads_ == 1) {
      work(0, 1);
      return;
    }
    arrivals_.store(0, std::memory_order_relaxed);
#pragma omp parallel num_threads(threads_)
    {
      work(omp_get_thread_num(), omp_get_num_threads());
      // Before OpenMP's own barrier at the region's end, which spins for milliseconds without giving way to a
      // thread of the team that waits for this very core.
      barrier();
    }
  }

  /// Inside run(): waits for the other threads, for long with the core given up.
  void barrier() const {
    const int threads = omp_get_num_threads();
    const std::int64_t all = (arrivals_.fetch_add(1, std::memory_order_acq_rel) / threads + 1) * threads;
    const auto start = waited_ == nullptr ? clock::time_point{} : clock::now();
    for (int turns = 0; arrivals_.load(std::memory_order_acquire) < all; ++turns) {
      if (turns < spin_turns) {
        relax();
      } else {
        sched_yield();
      }
    }
    if (waited_ != nullptr)
      waited_->fetch_add(std::chrono::nanoseconds{clock::now() - start}.count(), std::memory_order_relaxed);
  }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr int spin_turns = 2000;  // tens of microseconds

  static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  int threads_;
  std::atomic<std::int64_t>* waited_;
  mutable std::atomic<std::int64_t> arrivals_{0};
};

/// The part of [0, count) that thread `thread` of `threads` takes.
struct share {
  std::int64_t first;
  std::int64_t last;
  share(std::int64_t count, int thread, int threads)
      : first{count * thread / threads}, last{count * (thread + 1) / threads} {}
};

}  // namespace fastserve::kernels::cpu
