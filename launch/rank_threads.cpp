#include "launch/rank_threads.hpp"

#include <sched.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
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
  const auto choice = kernels::cpu::choose_threads(settings.engine.threads, std::getenv("OMP_NUM_THREADS"),
                                                   kernels::cpu::granted_cpus(), ranks_on_these_cpus(env));
  if (!choice.warning.empty() && env.leader()) spdlog::warn("{}", choice.warning);
  return choice.threads;
}

}  // namespace fastserve::launch
