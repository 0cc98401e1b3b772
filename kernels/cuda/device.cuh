#pragma once

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

// What kernels use of the device besides plain C++: thread indices, shared memory, barriers, shuffles, 16-bit
// floats, launches. Kernels call nothing of CUDA's directly, so that the same sources are also compiled for
// the host (FASTSERVE_CUDA_EMULATION, tests/cuda_emulation), where every thread is a fiber. Blocks are
// one-dimensional, warps always whole.

#ifdef FASTSERVE_CUDA_EMULATION
#include "emulation.hpp"
#include "kernels/cpu/half.hpp"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#endif

#include "kernels/cuda/check.hpp"
#include "kernels/e4m3.hpp"

#define FASTSERVE_DEVICE __device__ __forceinline__

namespace fastserve::kernels::cuda {

struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};
struct alignas(16) vec4 {
  std::uint32_t x[4];
};
struct alignas(16) float4v {
  float x[4];
};

inline constexpr int warp_lanes = 32;

// -- indices, barriers --------------------------------------------------------

#ifdef FASTSERVE_CUDA_EMULATION

inline int thread_index() { return static_cast<int>(emulation::here.thread); }
inline int block_threads() { return static_cast<int>(emulation::here.threads); }
inline std::int64_t block_x() { return emulation::here.block_x; }
inline std::int64_t block_y() { return emulation::here.block_y; }
inline std::int64_t grid_x() { return emulation::here.grid_x; }
inline void* shared_memory() { return emulation::shared(); }
inline void sync_block() { emulation::block_barrier(); }
inline void sync_warp() { emulation::warp_barrier(); }
inline float shuffle_xor(float x, int mask) {
  const emulation::lanes all{"shuffle_xor", &x, sizeof x};
  return all.of<float>(static_cast<unsigned>((thread_index() % warp_lanes) ^ mask));
}

inline std::uint64_t shuffle_xor(std::uint64_t x, int mask) {
  const emulation::lanes all{"shuffle_xor of 64 bits", &x, sizeof x};
  return all.of<std::uint64_t>(static_cast<unsigned>((thread_index() % warp_lanes) ^ mask));
}
/// What that lane has.
inline std::uint64_t from_lane(std::uint64_t x, int lane) {
  const emulation::lanes all{"from_lane", &x, sizeof x};
  return all.of<std::uint64_t>(static_cast<unsigned>(lane));
}
/// Of the warp, those with `yes`.
inline int count_lanes(bool yes) {
  const emulation::lanes all{"count_lanes", &yes, sizeof yes};
  int count = 0;
  for (unsigned lane = 0; lane < warp_lanes; ++lane) count += all.of<bool>(lane) ? 1 : 0;
  return count;
}
/// Adds to shared memory, whoever else does; what was there before.
inline std::uint32_t add_shared(std::uint32_t* to, std::uint32_t x) { return std::exchange(*to, *to + x); }

inline std::uint32_t bits_of(float x) { return cpu::bits_of(x); }
inline float float_of(std::uint32_t bits) { return cpu::float_of(bits); }
inline float to_float(bf16 x) { return cpu::bfloat_to_float(x.bits); }
inline float to_float(f16 x) { return cpu::half_to_float(x.bits); }
inline void from_float(bf16& to, float x) { to.bits = cpu::float_to_bfloat(x); }
inline void from_float(f16& to, float x) { to.bits = cpu::float_to_half(x); }
/// Two bf16 in one register: a - b, exact where the result is.
inline std::uint32_t subtract_bf16x2(std::uint32_t a, std::uint32_t b) {
  const auto part = [](std::uint32_t u, int h) {
    return cpu::bfloat_to_float(static_cast<std::uint16_t>(u >> (16 * h)));
  };
  const std::uint32_t low = cpu::float_to_bfloat(part(a, 0) - part(b, 0));
  const std::uint32_t high = cpu::float_to_bfloat(part(a, 1) - part(b, 1));
  return low | high << 16;
}
inline std::uint32_t and_or(std::uint32_t x, std::uint32_t mask, std::uint32_t bits) {
  return (x & mask) | bits;
}
inline std::uint32_t low_twice(std::uint32_t x) { return (x & 0xffffU) | x << 16; }
inline std::uint32_t high_twice(std::uint32_t x) { return x >> 16 | (x & 0xffff0000U); }
/// Two bf16 in one register: a b + c, rounded once.
inline std::uint32_t fma_bf16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t both = 0;
  for (unsigned shift = 0; shift < 32; shift += 16) {
    const auto part = [&](std::uint32_t u) {
      return double{cpu::bfloat_to_float(static_cast<std::uint16_t>(u >> shift))};
    };
    both |= std::uint32_t{cpu::float_to_bfloat(emulation::to_odd(std::fma(part(a), part(b), part(c))))}
            << shift;
  }
  return both;
}
inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal_fast(float x) { return 1.0F / x; }
inline int round_to_int(float x) { return static_cast<int>(std::nearbyint(x)); }
inline std::uint32_t pack2_e4m3(float low, float high) {
  return to_e4m3(low) | std::uint32_t{to_e4m3(high)} << 8;
}
inline vec4 load_streaming(const void* from) { return *static_cast<const vec4*>(from); }
inline void wait_for_previous() {}

#else

FASTSERVE_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
FASTSERVE_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
FASTSERVE_DEVICE std::int64_t block_x() { return blockIdx.x; }
FASTSERVE_DEVICE std::int64_t block_y() { return blockIdx.y; }
FASTSERVE_DEVICE std::int64_t grid_x() { return gridDim.x; }
FASTSERVE_DEVICE void* shared_memory() {
  extern __shared__ vec4 fastserve_shared[];
  return fastserve_shared;
}
FASTSERVE_DEVICE void sync_block() { __syncthreads(); }
FASTSERVE_DEVICE void sync_warp() { __syncwarp(); }
FASTSERVE_DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffU, x, mask); }
FASTSERVE_DEVICE std::uint64_t shuffle_xor(std::uint64_t x, int mask) {
  return __shfl_xor_sync(0xffffffffU, x, mask);
}
FASTSERVE_DEVICE std::uint64_t from_lane(std::uint64_t x, int lane) {
  return __shfl_sync(0xffffffffU, x, lane);
}
FASTSERVE_DEVICE int count_lanes(bool yes) { return __popc(__ballot_sync(0xffffffffU, yes)); }
FASTSERVE_DEVICE std::uint32_t add_shared(std::uint32_t* to, std::uint32_t x) { return atomicAdd(to, x); }

FASTSERVE_DEVICE std::uint32_t bits_of(float x) { return __float_as_uint(x); }
FASTSERVE_DEVICE float float_of(std::uint32_t bits) { return __uint_as_float(bits); }
FASTSERVE_DEVICE float to_float(bf16 x) { return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16); }
FASTSERVE_DEVICE float to_float(f16 x) { return __half2float(__ushort_as_half(x.bits)); }
FASTSERVE_DEVICE void from_float(bf16& to, float x) {
  to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
FASTSERVE_DEVICE void from_float(f16& to, float x) { to.bits = __half_as_ushort(__float2half_rn(x)); }
/// (x & mask) | bits, which the compiler makes two instructions of where both are constants.
FASTSERVE_DEVICE std::uint32_t and_or(std::uint32_t x, std::uint32_t mask, std::uint32_t bits) {
  std::uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(out) : "r"(x), "r"(mask), "r"(bits));
  return out;
}
/// One half of a register, twice.
FASTSERVE_DEVICE std::uint32_t low_twice(std::uint32_t x) { return __byte_perm(x, 0, 0x1010); }
FASTSERVE_DEVICE std::uint32_t high_twice(std::uint32_t x) { return __byte_perm(x, 0, 0x3232); }
/// Two bf16 in one register: a - b, exact where the result is. sm_80 has no subtraction, but fma(b, -1, a).
FASTSERVE_DEVICE std::uint32_t subtract_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t out;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(b), "r"(0xbf80bf80U), "r"(a));
  return out;
}
/// Two bf16 in one register: a b + c, rounded once.
FASTSERVE_DEVICE std::uint32_t fma_bf16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t out;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
}
FASTSERVE_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
/// Within 2 units in the last place, what is smaller than normal numbers is zero; the same bits for the same
/// x everywhere.
FASTSERVE_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// Likewise, within one unit in the last place.
FASTSERVE_DEVICE float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FASTSERVE_DEVICE int round_to_int(float x) { return __float2int_rn(x); }
/// Two numbers as e4m3, `low` in the low byte; what is larger than all becomes the largest.
FASTSERVE_DEVICE std::uint32_t pack2_e4m3(float low, float high) {
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
}
/// 16 bytes that are read once: they should not push others out of the first cache.
FASTSERVE_DEVICE vec4 load_streaming(const void* from) {
  vec4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x[0]), "=r"(v.x[1]), "=r"(v.x[2]), "=r"(v.x[3])
               : "l"(from));
  return v;
}

/// First of all in a kernel that is launched `early`, but for what reads weights alone: until the kernels
/// before it on the stream are done and what they wrote is there. The next one may come and wait, too.
FASTSERVE_DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" : : : "memory");
#endif
}

#endif

inline constexpr float log2_e = 1.44269504088896340736F;

FASTSERVE_DEVICE float to_float(float x) { return x; }
FASTSERVE_DEVICE void from_float(float& to, float x) { to = x; }
template <class T>
FASTSERVE_DEVICE T rounded_to(float x) {
  T out;
  from_float(out, x);
  return out;
}
/// Two numbers rounded into one register, `low` in the low half.
template <class T>
FASTSERVE_DEVICE std::uint32_t pack2(float low, float high) {
  return rounded_to<T>(low).bits | static_cast<std::uint32_t>(rounded_to<T>(high).bits) << 16;
}
#ifndef FASTSERVE_CUDA_EMULATION
template <>
FASTSERVE_DEVICE std::uint32_t pack2<bf16>(float low, float high) {
  std::uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
template <>
FASTSERVE_DEVICE std::uint32_t pack2<f16>(float low, float high) {
  std::uint32_t both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
#endif

// -- sums over a warp or a block, in an order that the number of threads fixes -------

template <class T>
FASTSERVE_DEVICE T warp_sum(T x) {
  for (int mask = 16; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}
/// Of magnitudes. A NaN wins.
FASTSERVE_DEVICE float larger(float a, float b) { return a > b || a != a ? a : b; }
FASTSERVE_DEVICE float warp_max(float x) {
  for (int mask = 16; mask > 0; mask /= 2) x = larger(x, shuffle_xor(x, mask));
  return x;
}
/// `room`: shared memory of one float for each warp. Every thread gets the sum.
FASTSERVE_DEVICE float block_sum(float x, float* room) {
  const int warps = block_threads() / warp_lanes;
  x = warp_sum(x);
  sync_block();
  if (thread_index() % warp_lanes == 0) room[thread_index() / warp_lanes] = x;
  sync_block();
  float sum = room[0];
  for (int w = 1; w < warps; ++w) sum += room[w];
  return sum;
}

// -- launches -------------------------------------------------------------------

struct launch_shape {
  std::int64_t x = 1;
  std::int64_t y = 1;
  int threads = warp_lanes;
  std::size_t shared_bytes = 0;
  cudaStream_t on = nullptr;
  bool early = false;  ///< may begin while the kernel before it ends: it calls wait_for_previous()
  int cluster = 1;     ///< blocks along x that share memory: Hopper's
};

inline constexpr std::int64_t largest_grid_x = 0x7fffffff;
inline constexpr std::int64_t largest_grid_y = 65535;

#ifndef FASTSERVE_CUDA_EMULATION
/// Whether this process's device lets a kernel begin while the one before it ends: from Hopper on.
inline bool begins_early() {
  static const bool does = [] {
    int device = 0;
    int major = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
          "cudaDeviceGetAttribute");
    return major >= 9;
  }();
  return does;
}
#endif

template <class... Parameters>
void launch(const char* what, void (*kernel)(Parameters...), const launch_shape& shape,
            const Parameters&... arguments) {
  assert(shape.x > 0 && shape.x <= largest_grid_x && shape.y > 0 && shape.y <= largest_grid_y);
  assert(shape.threads % warp_lanes == 0);
#ifdef FASTSERVE_CUDA_EMULATION
  emulation::launch(what, static_cast<unsigned>(shape.x), static_cast<unsigned>(shape.y),
                    static_cast<unsigned>(shape.threads), shape.shared_bytes, shape.on,
                    [=] { kernel(arguments...); });
#else
  constexpr std::size_t without_asking = 48 * 1024;
  if (shape.shared_bytes > without_asking) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.shared_bytes)),
          what);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.x), static_cast<unsigned>(shape.y));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.on;
  cudaLaunchAttribute attributes[2];
  config.attrs = attributes;
  if (shape.early && begins_early()) {
    auto& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    auto& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
  }
  check(cudaLaunchKernelEx(&config, kernel, arguments...), what);
#endif
}

}  // namespace fastserve::kernels::cuda
