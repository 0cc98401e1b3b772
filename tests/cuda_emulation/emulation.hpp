#pragma once

#include <cuda_runtime_api.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>

// Runs kernels/cuda's device code on the host, for tests. Each CUDA thread of a block is a fiber; it runs
// until it meets a barrier or a warp-wide operation, where it waits for the others. Blocks run one after
// another.
//
// Seen here: wrong indices (against references; with a sanitizer also every access beyond a buffer or beyond
// shared memory), wrong masks and fragment layouts, barriers and warp operations that not all threads reach,
// use of shared memory that nobody wrote (it starts as NaN), cp.async data used before it was waited for,
// and, because threads run in rising order in one launch and in falling order in the next, most missing
// barriers. Not seen: races within what one order of threads hides, the rounding inside of the real mma,
// performance.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

namespace fastserve::emulation {

struct thread_index {
  unsigned thread = 0;
  unsigned block_x = 0, block_y = 0;
  unsigned grid_x = 1, grid_y = 1;
  unsigned threads = 1;
};
/// Of the fiber that runs.
extern thread_index here;

/// Queues a kernel: `body`, which holds its arguments by value, once for each thread of each block.
void launch(const char* what, unsigned grid_x, unsigned grid_y, unsigned threads, std::size_t shared_bytes,
            cudaStream_t on, std::function<void()> body);

/// Shared memory of the block that runs: as many bytes as the launch asked for.
void* shared();
void block_barrier();
void warp_barrier();

/// Most bytes that a lane can bring to an exchange.
inline constexpr std::size_t exchange_bytes = 48;
/// What every lane of the warp brought. `what` must be the same in all lanes.
class lanes {
 public:
  lanes(const char* what, const void* mine, std::size_t bytes);
  template <class T>
  T of(unsigned lane) const {
    T value;
    std::memcpy(&value, slots_ + lane * exchange_bytes, sizeof value);
    return value;
  }

 private:
  const unsigned char* slots_;
};

/// cp.async: copies at the wait, not before. `bytes_from` < bytes: the rest is zero.
void copy_later(void* to, const void* from, unsigned bytes, unsigned bytes_from);
void copy_commit();
void copy_wait(unsigned groups_left);

/// Rounded to odd, by which rounding once more to fewer bits is as rounding once.
inline float to_odd(double x) {
  auto y = static_cast<float>(x);
  if (std::fabs(double{y}) > std::fabs(x)) y = std::nextafter(y, 0.0F);
  if (double{y} != x && y == y) y = std::bit_cast<float>(std::bit_cast<std::uint32_t>(y) | 1U);
  return y;
}

}  // namespace fastserve::emulation
