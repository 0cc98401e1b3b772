#include "launch/rank_threads.hpp"

#include <sched.h>

#include <algorithm>
#include <string>

#include "kernels/cpu/topology.hpp"

namespace fastserve::launch {

namespace {

// The processors that this process may run on, as text.
std::string affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {};
  std::string out;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) out += CPU_ISSET(cpu, &set) ? '1' : '0';
  return out;
}

// Ranks of this host that may run on the very same processors.
int ranks_on_these_cpus(mpi::environment& env) {
  const auto mine = env.host() + " " + affinity();
  const auto all = env.allgather(mine);
  return static_cast<int>(std::count(all.begin(), all.end(), mine));
}

}  // namespace

int choose_threads(const options& settings, mpi::environment& env) {
  const auto sharing = ranks_on_these_cpus(env);
  if (settings.engine.threads > 0) return settings.engine.threads;
  return std::max(1, kernels::cpu::granted_cpus() / sharing);
}

}  // namespace fastserve::launch
