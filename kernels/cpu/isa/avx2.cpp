#define FASTSERVE_ISA isa_avx2
#include "kernels/cpu/isa/integers_avx2.hpp"
// The vectors above, then what is written in them.
#include "kernels/cpu/isa/make_table.hpp"

namespace fastserve::kernels::cpu {

const kernel_table& avx2_table() {
  static constexpr kernel_table table = isa_avx2::make_table("avx2", "AVX2");
  return table;
}

}  // namespace fastserve::kernels::cpu
