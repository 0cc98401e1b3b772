#include "launch/survival.hpp"

#include <cstdlib>
#include <string_view>

namespace fastserve::launch {

namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view{} : std::string_view{value};
}

bool on(std::string_view value) {
  return !value.empty() && value != "0" && value != "false" && value != "no";
}

}  // namespace

// It hands its settings on to the ranks; srun sets none of them.
bool started_by_mpirun() { return !variable("OMPI_MCA_orte_launch").empty(); }

std::string missing_launcher_flag() {
  if (started_by_mpirun())
    return on(variable("OMPI_MCA_orte_enable_recovery")) ? "" : "mpirun --enable-recovery";
  // srun does so only with variables, which is why the scripts set these in place of the flags.
  if (!variable("SLURM_STEP_ID").empty()) {
    if (variable("SLURM_KILL_BAD_EXIT") != "0") return "srun --kill-on-bad-exit=0, as SLURM_KILL_BAD_EXIT=0";
    if (variable("SLURM_NO_KILL") != "set") return "srun --no-kill, as SLURM_NO_KILL=set";
  }
  return {};
}

}  // namespace fastserve::launch
