#pragma once

#include <cuda.h>

#include "kernels/cuda/mma.cuh"

// What only Hopper has, compiled for sm_90a: matrix instructions of a warpgroup (wgmma) that read shared
// memory by themselves, copies of whole tiles that report to a barrier. PTX ISA 8.7,
// sections 9.7.9.27 (bulk copies), 9.7.13.15 (mbarrier), 9.7.15 (wgmma).
//
// The matrix instruction of a warpgroup gives the very bits of the warp's (mma.cuh) for the same chain of k:
// tests/cuda compares them, and the kernels of both kinds rely on it.

namespace fastserve::kernels::cuda::hopper {

inline constexpr int group_threads = 128;  // of a warpgroup
/// A tile of 64 rows (features or tokens) by 64 columns of 16 bits, as the matrix unit wants it: rows of 128
/// bytes, the 16-byte pieces of a row exchanged by its number (128-byte swizzle).
inline constexpr int panel_rows = 64;
inline constexpr int panel_columns = 64;
inline constexpr int panel_row_bytes = 128;
inline constexpr int panel_bytes = panel_rows * panel_row_bytes;

// -- barriers in shared memory --------------------------------------------------

FASTSERVE_DEVICE void init_barrier(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(barrier), "r"(arrivals));
}
/// Makes initialised barriers visible to copies and other blocks of the cluster; a barrier of the block comes
/// after.
FASTSERVE_DEVICE void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory");
}
/// Arrives, and says how many bytes of copies are to come before the phase is over.
FASTSERVE_DEVICE void expect_bytes(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               :
               : "r"(barrier), "r"(bytes)
               : "memory");
}
FASTSERVE_DEVICE void arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" : : "r"(barrier) : "memory");
}
/// At the same barrier of a block of the cluster, from whose memory this one's reads are done.
FASTSERVE_DEVICE void arrive_at(std::uint32_t barrier, int block) {
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}\n"
      :
      : "r"(barrier), "r"(block)
      : "memory");
}
/// A barrier of all threads of the cluster, in two halves. Warps come whole.
FASTSERVE_DEVICE void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" : : : "memory");
}
FASTSERVE_DEVICE void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" : : : "memory");
}
FASTSERVE_DEVICE int block_in_cluster() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
/// Until the phase of this parity is over.
FASTSERVE_DEVICE void wait(std::uint32_t barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}\n"
      :
      : "r"(barrier), "r"(parity)
      : "memory");
}

/// A ring's place: which slot, and the parity of its barriers' phase.
struct ring_place {
  int slot = 0;
  int phase = 0;
  FASTSERVE_DEVICE void next(int slots) {
    if (++slot == slots) {
      slot = 0;
      phase ^= 1;
    }
  }
};

/// The threads of one warpgroup, `id` from 1.
FASTSERVE_DEVICE void sync_group(int id) {
  asm volatile("bar.sync %0, %1;" : : "r"(id), "n"(group_threads) : "memory");
}
/// Writes of this thread to shared memory, before a barrier after which the matrix unit reads them.
FASTSERVE_DEVICE void show_to_matrix_unit() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }

// -- between blocks ---------------------------------------------------------------

/// What this thread has written to global memory is there for all before what it writes afterwards.
FASTSERVE_DEVICE void fence_device() { __threadfence(); }
FASTSERVE_DEVICE std::uint32_t add_global(std::uint32_t* to, std::uint32_t x) { return atomicAdd(to, x); }
/// What another block has written: not what this multiprocessor knew of it.
FASTSERVE_DEVICE float load_from_others(const float* from) { return __ldcg(from); }

// -- shared memory by address ----------------------------------------------------------

FASTSERVE_DEVICE vec4 load_shared(std::uint32_t from) {
  vec4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x[0]), "=r"(v.x[1]), "=r"(v.x[2]), "=r"(v.x[3])
               : "r"(from)
               : "memory");
  return v;
}
FASTSERVE_DEVICE std::uint32_t load_shared_word(std::uint32_t from) {
  std::uint32_t x;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(from) : "memory");
  return x;
}

// -- copies -------------------------------------------------------------------------

FASTSERVE_DEVICE void copy_bytes(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               :
               : "r"(to), "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}
/// To the same place of both blocks of a cluster, each of which has a barrier there.
FASTSERVE_DEVICE void copy_bytes_to_both(std::uint32_t to, const void* from, int bytes,
                                         std::uint32_t barrier) {
  const std::uint16_t both = 3;
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, "
      "[%3], "
      "%4;"
      :
      : "r"(to), "l"(from), "r"(bytes), "r"(barrier), "h"(both)
      : "memory");
}
/// A box of a matrix from column x, row y on; what lies outside is zero and counts as copied.
FASTSERVE_DEVICE void copy_box(std::uint32_t to, const CUtensorMap& map, int x, int y,
                               std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];"
      :
      : "r"(to), "l"(&map), "r"(x), "r"(y), "r"(barrier)
      : "memory");
}
FASTSERVE_DEVICE void copy_box(std::uint32_t to, const CUtensorMap& map, int x, int y, int z,
                               std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, "
      "%4}], "
      "[%5];"
      :
      : "r"(to), "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier)
      : "memory");
}

// -- registers ------------------------------------------------------------------------

template <int Count>
FASTSERVE_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(Count));
}
template <int Count>
FASTSERVE_DEVICE void leave_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(Count));
}

// -- products -------------------------------------------------------------------------

/// Names a panel to the matrix unit; 16 columns further on it is 2 more.
FASTSERVE_DEVICE std::uint64_t panel_at(std::uint32_t address) {
  constexpr std::uint64_t eight_rows = 8 * panel_row_bytes;
  return (address & 0x3ffffU) >> 4 | std::uint64_t{1} << 16 | eight_rows >> 4 << 32 | std::uint64_t{1} << 62;
}
/// The same, read by columns: k goes along the rows (16 rows further on it is 128 more), and the next 64
/// columns are `next` bytes further.
FASTSERVE_DEVICE std::uint64_t turned_panel_at(std::uint32_t address, int next) {
  constexpr std::uint64_t eight_rows = 8 * panel_row_bytes;
  return (address & 0x3ffffU) >> 4 | static_cast<std::uint64_t>(next >> 4) << 16 | eight_rows >> 4 << 32 |
         std::uint64_t{1} << 62;
}
FASTSERVE_DEVICE void begin_products() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }
/// Registers that products take as their first operand, before begin_products(): the compiler would compute
/// some of them behind it, and then let no two products run at once.
template <int Count>
FASTSERVE_DEVICE void settle(std::uint32_t (&registers)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+r"(registers[i]) : : "memory");
}
FASTSERVE_DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
/// Until all but the last `Left` groups of products are done.
template <int Left>
FASTSERVE_DEVICE void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(Left) : "memory");
}

// d[4 n + i] of a lane: row 16 warp + lane / 4 + 8 (i / 2), column 8 n + 2 (lane % 4) + i % 2.
#define FASTSERVE_REGISTERS_4 "%0, %1, %2, %3"
#define FASTSERVE_OPERANDS_4 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define FASTSERVE_REGISTERS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define FASTSERVE_OPERANDS_8 \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
#define FASTSERVE_REGISTERS_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FASTSERVE_OPERANDS_16                                                                     \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define FASTSERVE_REGISTERS_32                                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FASTSERVE_OPERANDS_32                                                                               \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),           \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
      "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),            \
      "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),            \
      "+f"(d[30]), "+f"(d[31])
#define FASTSERVE_REGISTERS_64                                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, " \
  "%59, %60, %61, %62, %63"
#define FASTSERVE_OPERANDS_64                                                                               \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),           \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
      "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),            \
      "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),            \
      "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),            \
      "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),            \
      "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]),            \
      "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]),            \
      "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])

/// d (+)= a b over 16 of k: 64 rows of `a` by 2 Count rows of `b`, panels both. Starts anew unless `keep`.
template <class T, int Count>
FASTSERVE_DEVICE void multiply_panels(float (&d)[Count], std::uint64_t a, std::uint64_t b, bool keep);
#define FASTSERVE_PRODUCT(type, name, count, columns, a_at, b_at, keep_at)                        \
  template <>                                                                                     \
  FASTSERVE_DEVICE void multiply_panels<type>(float(&d)[count], std::uint64_t a, std::uint64_t b, \
                                              bool keep) {                                        \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" keep_at                                     \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns "k16.f32." name "." name       \
                 " {" FASTSERVE_REGISTERS_##count "}, %" a_at ", %" b_at ", p, 1, 1, 0, 0;\n}\n"  \
                 : FASTSERVE_OPERANDS_##count                                                     \
                 : "l"(a), "l"(b), "r"(keep ? 1 : 0));                                            \
  }
#define FASTSERVE_PRODUCTS(count, columns, a_at, b_at, keep_at)        \
  FASTSERVE_PRODUCT(bf16, "bf16", count, columns, a_at, b_at, keep_at) \
  FASTSERVE_PRODUCT(f16, "f16", count, columns, a_at, b_at, keep_at)
FASTSERVE_PRODUCTS(4, "8", "4", "5", "6")
FASTSERVE_PRODUCTS(8, "16", "8", "9", "10")
FASTSERVE_PRODUCTS(16, "32", "16", "17", "18")
FASTSERVE_PRODUCTS(32, "64", "32", "33", "34")
FASTSERVE_PRODUCTS(64, "128", "64", "65", "66")

/// d += a b with `a` in registers (fragments as in mma.cuh) and `b` read by columns, of which there are 2
/// Count.
template <class T, int Count>
FASTSERVE_DEVICE void multiply_turned(float (&d)[Count], const std::uint32_t (&a)[4], std::uint64_t b);
#define FASTSERVE_TURNED(type, name, count, columns, a0, a1, a2, a3, b_at)                           \
  template <>                                                                                        \
  FASTSERVE_DEVICE void multiply_turned<type>(float(&d)[count], const std::uint32_t(&a)[4],          \
                                              std::uint64_t b) {                                     \
    asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\nwgmma.mma_async.sync.aligned.m64n" columns \
                 "k16.f32." name "." name " {" FASTSERVE_REGISTERS_##count                           \
                 "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b_at ", p, 1, 1, 1;\n}\n"              \
                 : FASTSERVE_OPERANDS_##count                                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                              \
  }
/// d (+)= a b over 16 of k with `a` in registers, as multiply_panels otherwise.
template <class T, int Count>
FASTSERVE_DEVICE void multiply_registers(float (&d)[Count], const std::uint32_t (&a)[4], std::uint64_t b,
                                         bool keep);

#define FASTSERVE_REGISTER_PRODUCT(count, columns, a0, a1, a2, a3, b_at, keep_at)                        \
  template <>                                                                                            \
  FASTSERVE_DEVICE void multiply_registers<bf16>(float(&d)[count], const std::uint32_t(&a)[4],           \
                                                 std::uint64_t b, bool keep) {                           \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" keep_at                                            \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns                                       \
                 "k16.f32.bf16.bf16 {" FASTSERVE_REGISTERS_##count "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 \
                                                                   "}, %" b_at ", p, 1, 1, 0;\n}\n"      \
                 : FASTSERVE_OPERANDS_##count                                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep ? 1 : 0));               \
  }
FASTSERVE_REGISTER_PRODUCT(4, "8", "4", "5", "6", "7", "8", "9")
FASTSERVE_REGISTER_PRODUCT(8, "16", "8", "9", "10", "11", "12", "13")
FASTSERVE_REGISTER_PRODUCT(16, "32", "16", "17", "18", "19", "20", "21")
FASTSERVE_REGISTER_PRODUCT(32, "64", "32", "33", "34", "35", "36", "37")
FASTSERVE_REGISTER_PRODUCT(64, "128", "64", "65", "66", "67", "68", "69")

FASTSERVE_TURNED(bf16, "bf16", 32, "64", "32", "33", "34", "35", "36")
FASTSERVE_TURNED(f16, "f16", 32, "64", "32", "33", "34", "35", "36")
FASTSERVE_TURNED(bf16, "bf16", 64, "128", "64", "65", "66", "67", "68")
FASTSERVE_TURNED(f16, "f16", 64, "128", "64", "65", "66", "67", "68")

}  // namespace fastserve::kernels::cuda::hopper
