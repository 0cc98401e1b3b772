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
/// Released to this block alone: reads leave nothing behind that others were to see, and a release to the
/// cluster is a fence of the whole device.
FASTSERVE_DEVICE void arrive_at(std::uint32_t barrier, int block) {
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n"
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
FASTSERVE_DEVICE void store_shared(std::uint32_t to, std::uint32_t low, std::uint32_t high) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" : : "r"(to), "r"(low), "r"(high) : "memory");
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

FASTSERVE_DEVICE std::int64_t grid_y() { return gridDim.y; }
/// What all lanes have, so that the compiler knows it.
FASTSERVE_DEVICE std::uint32_t uniform(std::uint32_t x) { return __shfl_sync(0xffffffffU, x, 0); }
/// The threads of one warpgroup, `id` from 1.
FASTSERVE_DEVICE void sync_group(int id) {
  asm volatile("bar.sync %0, %1;" : : "r"(id), "n"(group_threads) : "memory");
}
/// Turns that two warpgroups take, each with a barrier of its own: waits for this one's, gives the other's.
FASTSERVE_DEVICE void wait_for_turn(int id) {
  asm volatile("bar.sync %0, %1;" : : "r"(id), "n"(2 * group_threads) : "memory");
}
FASTSERVE_DEVICE void pass_turn(int id) {
  asm volatile("bar.arrive %0, %1;" : : "r"(id), "n"(2 * group_threads) : "memory");
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
/// To the same place of both blocks of a cluster, as copy_bytes_to_both.
FASTSERVE_DEVICE void copy_box_to_both(std::uint32_t to, const CUtensorMap& map, int x, int y,
                                       std::uint32_t barrier) {
  const std::uint16_t both = 3;
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%2, %3}], [%4], %5;"
      :
      : "r"(to), "l"(&map), "r"(x), "r"(y), "r"(barrier), "h"(both)
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
/// A single row of numbers, one after another: as rows of which each begins 8 numbers after the one before,
/// the first of them is the one; 16 columns further on it is 2 more. What lies 7 rows beyond its end is read,
/// too.
FASTSERVE_DEVICE std::uint64_t row_at(std::uint32_t address) {
  return (address & 0x3ffffU) >> 4 | std::uint64_t{1} << 16 | std::uint64_t{8} << 32;
}
FASTSERVE_DEVICE void begin_products() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }
/// Registers that products take as their first operand, before begin_products(): the compiler would compute
/// some of them behind it, and then let no two products run at once.
template <int Count>
FASTSERVE_DEVICE void settle(std::uint32_t (&registers)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+r"(registers[i]) : : "memory");
}
/// Sums likewise, which products go on from.
template <int Count>
FASTSERVE_DEVICE void settle(float (&sums)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+f"(sums[i]) : : "memory");
}
FASTSERVE_DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
/// Until all but the last `Left` groups of products are done.
template <int Left>
FASTSERVE_DEVICE void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(Left) : "memory");
}

// d[4 n + i] of a lane: row 16 warp + lane / 4 + 8 (i / 2), column 8 n + 2 (lane % 4) + i % 2.
#define FASTSERVE_REGISTERS_4 "%0, %1, %2, %3"
#define FASTSERVE_OPERANDS_4(kind) kind(d[0]), kind(d[1]), kind(d[2]), kind(d[3])
#define FASTSERVE_REGISTERS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define FASTSERVE_OPERANDS_8(kind) \
  kind(d[0]), kind(d[1]), kind(d[2]), kind(d[3]), kind(d[4]), kind(d[5]), kind(d[6]), kind(d[7])
#define FASTSERVE_REGISTERS_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FASTSERVE_OPERANDS_16(kind)                                                               \
  kind(d[0]), kind(d[1]), kind(d[2]), kind(d[3]), kind(d[4]), kind(d[5]), kind(d[6]), kind(d[7]), \
      kind(d[8]), kind(d[9]), kind(d[10]), kind(d[11]), kind(d[12]), kind(d[13]), kind(d[14]), kind(d[15])
#define FASTSERVE_REGISTERS_32                                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FASTSERVE_OPERANDS_32(kind)                                                                         \
  kind(d[0]), kind(d[1]), kind(d[2]), kind(d[3]), kind(d[4]), kind(d[5]), kind(d[6]), kind(d[7]),           \
      kind(d[8]), kind(d[9]), kind(d[10]), kind(d[11]), kind(d[12]), kind(d[13]), kind(d[14]), kind(d[15]), \
      kind(d[16]), kind(d[17]), kind(d[18]), kind(d[19]), kind(d[20]), kind(d[21]), kind(d[22]),            \
      kind(d[23]), kind(d[24]), kind(d[25]), kind(d[26]), kind(d[27]), kind(d[28]), kind(d[29]),            \
      kind(d[30]), kind(d[31])
#define FASTSERVE_REGISTERS_64                                                                   \
  FASTSERVE_REGISTERS_32                                                                         \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
  "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FASTSERVE_OPERANDS_64(kind)                                                                          \
  FASTSERVE_OPERANDS_32(kind), kind(d[32]), kind(d[33]), kind(d[34]), kind(d[35]), kind(d[36]), kind(d[37]), \
      kind(d[38]), kind(d[39]), kind(d[40]), kind(d[41]), kind(d[42]), kind(d[43]), kind(d[44]),             \
      kind(d[45]), kind(d[46]), kind(d[47]), kind(d[48]), kind(d[49]), kind(d[50]), kind(d[51]),             \
      kind(d[52]), kind(d[53]), kind(d[54]), kind(d[55]), kind(d[56]), kind(d[57]), kind(d[58]),             \
      kind(d[59]), kind(d[60]), kind(d[61]), kind(d[62]), kind(d[63])
#define FASTSERVE_REGISTERS_128                                                                  \
  FASTSERVE_REGISTERS_64                                                                         \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, " \
  "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, "   \
  "%100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, "   \
  "%115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define FASTSERVE_OPERANDS_128(kind)                                                                         \
  FASTSERVE_OPERANDS_64(kind), kind(d[64]), kind(d[65]), kind(d[66]), kind(d[67]), kind(d[68]), kind(d[69]), \
      kind(d[70]), kind(d[71]), kind(d[72]), kind(d[73]), kind(d[74]), kind(d[75]), kind(d[76]),             \
      kind(d[77]), kind(d[78]), kind(d[79]), kind(d[80]), kind(d[81]), kind(d[82]), kind(d[83]),             \
      kind(d[84]), kind(d[85]), kind(d[86]), kind(d[87]), kind(d[88]), kind(d[89]), kind(d[90]),             \
      kind(d[91]), kind(d[92]), kind(d[93]), kind(d[94]), kind(d[95]), kind(d[96]), kind(d[97]),             \
      kind(d[98]), kind(d[99]), kind(d[100]), kind(d[101]), kind(d[102]), kind(d[103]), kind(d[104]),        \
      kind(d[105]), kind(d[106]), kind(d[107]), kind(d[108]), kind(d[109]), kind(d[110]), kind(d[111]),      \
      kind(d[112]), kind(d[113]), kind(d[114]), kind(d[115]), kind(d[116]), kind(d[117]), kind(d[118]),      \
      kind(d[119]), kind(d[120]), kind(d[121]), kind(d[122]), kind(d[123]), kind(d[124]), kind(d[125]),      \
      kind(d[126]), kind(d[127])

// `of`: the template's arguments, `form`: of the instruction, `ends`: its last operands.
#define FASTSERVE_PRODUCT(of, sum, letter, form, ends, count, columns, a_at, b_at, keep_at)               \
  template <>                                                                                             \
  FASTSERVE_DEVICE void multiply_panels of(sum(&d)[count], std::uint64_t a, std::uint64_t b, bool keep) { \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" keep_at                                             \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns form " {" FASTSERVE_REGISTERS_##count  \
                 "}, %" a_at ", %" b_at ", p" ends ";\n}\n"                                               \
                 : FASTSERVE_OPERANDS_##count(letter)                                                     \
                 : "l"(a), "l"(b), "r"(keep ? 1 : 0));                                                    \
  }
#define FASTSERVE_PRODUCTS(of, sum, letter, form, ends)                       \
  FASTSERVE_PRODUCT(of, sum, letter, form, ends, 4, "8", "4", "5", "6")       \
  FASTSERVE_PRODUCT(of, sum, letter, form, ends, 8, "16", "8", "9", "10")     \
  FASTSERVE_PRODUCT(of, sum, letter, form, ends, 16, "32", "16", "17", "18")  \
  FASTSERVE_PRODUCT(of, sum, letter, form, ends, 32, "64", "32", "33", "34")  \
  FASTSERVE_PRODUCT(of, sum, letter, form, ends, 64, "128", "64", "65", "66") \
  FASTSERVE_PRODUCT(of, sum, letter, form, ends, 128, "256", "128", "129", "130")

/// d (+)= a b over 16 of k: 64 rows of `a` by 2 Count rows of `b`, panels both. Starts anew unless `keep`.
template <class T, int Count>
FASTSERVE_DEVICE void multiply_panels(float (&d)[Count], std::uint64_t a, std::uint64_t b, bool keep);
FASTSERVE_PRODUCTS(<bf16>, float, "+f", "k16.f32.bf16.bf16", ", 1, 1, 0, 0")
FASTSERVE_PRODUCTS(<f16>, float, "+f", "k16.f32.f16.f16", ", 1, 1, 0, 0")

/// The same of int8 over 32 of k, exact.
template <int Count>
FASTSERVE_DEVICE void multiply_panels(std::int32_t (&d)[Count], std::uint64_t a, std::uint64_t b, bool keep);
FASTSERVE_PRODUCTS(, std::int32_t, "+r", "k32.s32.s8.s8", "")

/// The same of e4m3 over 32 of k, added up with fewer bits than a float has.
struct e4m3;
FASTSERVE_PRODUCTS(<e4m3>, float, "+f", "k32.f32.e4m3.e4m3", ", 1, 1")

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
                 : FASTSERVE_OPERANDS_##count("+f")                                                  \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                              \
  }
/// d (+)= a b over 16 of k with `a` in registers, as multiply_panels otherwise.
template <class T, int Count>
FASTSERVE_DEVICE void multiply_registers(float (&d)[Count], const std::uint32_t (&a)[4], std::uint64_t b,
                                         bool keep);

#define FASTSERVE_REGISTER_PRODUCT(type, name, count, columns, a0, a1, a2, a3, b_at, keep_at)       \
  template <>                                                                                       \
  FASTSERVE_DEVICE void multiply_registers<type>(float(&d)[count], const std::uint32_t(&a)[4],      \
                                                 std::uint64_t b, bool keep) {                      \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" keep_at                                       \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns "k16.f32." name "." name         \
                 " {" FASTSERVE_REGISTERS_##count "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b_at \
                                                  ", p, 1, 1, 0;\n}\n"                              \
                 : FASTSERVE_OPERANDS_##count("+f")                                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep ? 1 : 0));          \
  }
FASTSERVE_REGISTER_PRODUCT(bf16, "bf16", 4, "8", "4", "5", "6", "7", "8", "9")
FASTSERVE_REGISTER_PRODUCT(bf16, "bf16", 8, "16", "8", "9", "10", "11", "12", "13")
FASTSERVE_REGISTER_PRODUCT(bf16, "bf16", 16, "32", "16", "17", "18", "19", "20", "21")
FASTSERVE_REGISTER_PRODUCT(bf16, "bf16", 32, "64", "32", "33", "34", "35", "36", "37")
FASTSERVE_REGISTER_PRODUCT(f16, "f16", 32, "64", "32", "33", "34", "35", "36", "37")
FASTSERVE_REGISTER_PRODUCT(bf16, "bf16", 64, "128", "64", "65", "66", "67", "68", "69")

FASTSERVE_TURNED(bf16, "bf16", 32, "64", "32", "33", "34", "35", "36")
FASTSERVE_TURNED(f16, "f16", 32, "64", "32", "33", "34", "35", "36")
FASTSERVE_TURNED(bf16, "bf16", 64, "128", "64", "65", "66", "67", "68")
FASTSERVE_TURNED(f16, "f16", 64, "128", "64", "65", "66", "67", "68")

}  // namespace fastserve::kernels::cuda::hopper
