#define FASTSERVE_ISA isa_avx512vnni
#include "kernels/cpu/isa/integers_avx512.hpp"
// The vectors above, then what is written in them.
#include "kernels/cpu/isa/make_table.hpp"

namespace fastserve::kernels::cpu {

const kernel_table& avx512vnni_table() {
  static constexpr kernel_table table = isa_avx512vnni::make_table("avx512vnni", "AVX-512 VNNI");
  return table;
}

}  // namespace fastserve::kernels::cpu
