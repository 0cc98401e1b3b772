#define FASTSERVE_ISA isa_portable
#include "kernels/cpu/isa/integers_portable.hpp"
// The vectors above, then what is written in them.
#include "kernels/cpu/isa/make_table.hpp"

namespace fastserve::kernels::cpu {

const kernel_table& portable_table() {
  static constexpr kernel_table table = isa_portable::make_table("portable", "portable");
  return table;
}

}  // namespace fastserve::kernels::cpu
