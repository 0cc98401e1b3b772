#define FASTSERVE_ISA isa_avxvnni
#include "kernels/cpu/isa/integers_avx2.hpp"
// The vectors above, then what is written in them.
#include "kernels/cpu/isa/make_table.hpp"

namespace fastserve::kernels::cpu {

const kernel_table& avxvnni_table() {
  static constexpr kernel_table table = isa_avxvnni::make_table("avxvnni", "AVX-VNNI");
  return table;
}

}  // namespace fastserve::kernels::cpu
