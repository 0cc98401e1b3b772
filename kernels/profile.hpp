#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "kernels/backend.hpp"

namespace fastserve::kernels {

/// Kinds of ops that a step's time is told by.
enum class step_op : std::uint8_t {
  products,
  attention,
  rotation,
  norms,
  activations,
  embedding,
  planning,
  drawing
};
inline constexpr int step_ops = 8;
const char* name_of(step_op op);

/// Where the time of the ops went since the start. Read from any thread.
struct step_profile {
  std::array<std::atomic<std::int64_t>, step_ops> op_ns{};  ///< wall time of the calls
  std::atomic<std::int64_t> waited_ns{
      0};  ///< of all threads together, for others at the ends of ops; part of the above
  int threads = 1;

  struct reading {
    std::array<std::int64_t, step_ops> op_ns{};
    std::int64_t waited_ns = 0;  ///< a thread, in the mean
    friend reading operator-(reading a, const reading& b) {
      for (std::size_t i = 0; i < a.op_ns.size(); ++i) a.op_ns[i] -= b.op_ns[i];
      a.waited_ns -= b.waited_ns;
      return a;
    }
  };
  reading read() const {
    reading now;
    for (std::size_t i = 0; i < op_ns.size(); ++i) now.op_ns[i] = op_ns[i].load(std::memory_order_relaxed);
    now.waited_ns = waited_ns.load(std::memory_order_relaxed) / threads;
    return now;
  }
};

/// make_cpu_backend(threads), with a clock at every op: some 50 ns each. `into` must outlive the result.
std::unique_ptr<backend> make_profiled_cpu_backend(int threads, step_profile& into);

}  // namespace fastserve::kernels
