#include "kernels/cpu/waiting.hpp"

#include <unistd.h>

#include <cstdlib>
#include <initializer_list>

namespace fastserve::kernels::cpu {

void bound_idle_spinning(char** argv) {
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}) {
    if (std::getenv(name) != nullptr) return;
  }
  setenv("GOMP_SPINCOUNT", "2000", 1);  // turns; some tens of microseconds
  setenv("KMP_BLOCKTIME", "1", 1);      // milliseconds
  execv("/proc/self/exe", argv);
  // Where that is not possible the program goes on as it is, only less considerate.
}

}  // namespace fastserve::kernels::cpu
