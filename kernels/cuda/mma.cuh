#pragma once

#include "kernels/cuda/device.cuh"

// The warp's matrix instructions, and how fragments lie in lanes. With g = lane / 4 and t = lane % 4, for
// m16n8k16 of 16-bit floats (two numbers to a register, the lower index in the low half):
//   a[0] (row g, k 2t 2t+1)  a[1] (g+8, same k)  a[2] (g, k 2t+8 2t+9)  a[3] (g+8, k 2t+8 2t+9)
//   b[0] (k 2t 2t+1, column g)  b[1] (k 2t+8 2t+9, column g)
//   c[0] (row g, column 2t)  c[1] (g, 2t+1)  c[2] (g+8, 2t)  c[3] (g+8, 2t+1)
// and for m16n8k32 of int8 (four to a register): k 4t..4t+3 in place of 2t 2t+1, k + 16 in place of k + 8.

namespace fastserve::kernels::cuda {

#ifdef FASTSERVE_CUDA_EMULATION

struct operands {
  std::uint32_t a[4];
  std::uint32_t b[2];
};

template <class T>
inline void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  const operands mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const emulation::lanes all{"mma", &mine, sizeof mine};
  const int lane = thread_index() % warp_lanes;
  const auto half = [](std::uint32_t u, int h) {
    return to_float(T{static_cast<std::uint16_t>(u >> (16 * h))});
  };
  double sums[4] = {0, 0, 0, 0};
  for (int t = 0; t < 4; ++t) {
    const auto low = all.of<operands>(static_cast<unsigned>(lane / 4 * 4 + t));
    for (int column = 0; column < 2; ++column) {
      const auto b = all.of<operands>(static_cast<unsigned>((2 * (lane % 4) + column) * 4 + t));
      for (int h = 0; h < 2; ++h) {
        for (int k = 0; k < 2; ++k) {
          sums[column] += double{half(low.a[2 * k], h)} * half(b.b[k], h);
          sums[column + 2] += double{half(low.a[2 * k + 1], h)} * half(b.b[k], h);
        }
      }
    }
  }
  for (int i = 0; i < 4; ++i) c[i] = static_cast<float>(c[i] + sums[i]);
}

inline void mma_i8(std::int32_t (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  const operands mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const emulation::lanes all{"mma_i8", &mine, sizeof mine};
  const int lane = thread_index() % warp_lanes;
  const auto byte = [](std::uint32_t u, int i) {
    return static_cast<int>(static_cast<std::int8_t>(u >> (8 * i)));
  };
  for (int t = 0; t < 4; ++t) {
    const auto row = all.of<operands>(static_cast<unsigned>(lane / 4 * 4 + t));
    for (int column = 0; column < 2; ++column) {
      const auto b = all.of<operands>(static_cast<unsigned>((2 * (lane % 4) + column) * 4 + t));
      for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < 2; ++k) {
          c[column] += byte(row.a[2 * k], i) * byte(b.b[k], i);
          c[column + 2] += byte(row.a[2 * k + 1], i) * byte(b.b[k], i);
        }
      }
    }
  }
}

/// Four 8 x 8 matrices of 16-bit elements; lane i names row i % 8 of matrix i / 8.
template <bool Transposed>
inline void load_matrices(std::uint32_t (&to)[4], const void* row) {
  const emulation::lanes all{"load_matrices", &row, sizeof row};
  const unsigned lane = static_cast<unsigned>(thread_index() % warp_lanes);
  for (unsigned m = 0; m < 4; ++m) {
    std::uint32_t value = 0;
    for (unsigned h = 0; h < 2; ++h) {
      const unsigned r = Transposed ? 2 * (lane % 4) + h : lane / 4;
      const unsigned c = Transposed ? lane / 4 : 2 * (lane % 4) + h;
      value |= static_cast<std::uint32_t>(all.of<const std::uint16_t*>(8 * m + r)[c]) << (16 * h);
    }
    to[m] = value;
  }
  emulation::warp_barrier();  // what was read may be written from here on
}

inline void copy_async(void* shared_to, const void* from, bool present) {
  emulation::copy_later(shared_to, from, 16, present ? 16 : 0);
}
inline void copy_async_commit() { emulation::copy_commit(); }
template <int GroupsLeft>
inline void copy_async_wait() {
  emulation::copy_wait(GroupsLeft);
}

#else

FASTSERVE_DEVICE std::uint32_t shared_address(const void* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}

/// c += a b.
template <class T>
FASTSERVE_DEVICE void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);
template <>
FASTSERVE_DEVICE void mma<bf16>(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
FASTSERVE_DEVICE void mma<f16>(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                               std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

FASTSERVE_DEVICE void mma_i8(std::int32_t (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                             std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Four 8 x 8 matrices of 16-bit elements in shared memory; lane i names row i % 8 of matrix i / 8, to[m]
/// gets (row g, columns 2t 2t+1) of matrix m, or of its transpose.
template <bool Transposed>
FASTSERVE_DEVICE void load_matrices(std::uint32_t (&to)[4], const void* row) {
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
}

/// 16 bytes to shared memory, beside the arithmetic; zeros where they are not `present` (`from` is not read).
FASTSERVE_DEVICE void copy_async(void* shared_to, const void* from, bool present) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(shared_to)), "l"(from), "r"(present ? 16 : 0)
               : "memory");
}
FASTSERVE_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }
/// Until all but the last `GroupsLeft` groups of this thread are there.
template <int GroupsLeft>
FASTSERVE_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(GroupsLeft) : "memory");
}

#endif

}  // namespace fastserve::kernels::cuda
