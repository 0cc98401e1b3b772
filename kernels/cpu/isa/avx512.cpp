#define FASTSERVE_ISA isa_avx512
#include "kernels/cpu/isa/integers_avx512.hpp"
// The vectors above, then what is written in them.
#include "kernels/cpu/isa/make_table.hpp"

namespace fastserve::kernels::cpu {

const kernel_table& avx512_table() {
  static constexpr kernel_table table = isa_avx512::make_table("avx512", "AVX-512");
  return table;
}

}  // namespace fastserve::kernels::cpu
