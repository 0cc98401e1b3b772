#pragma once

#include <cstddef>
#include <string>

namespace fastserve::kernels::cpu {

/// Processors that the launcher granted to this process: its affinity mask, cut to the CPU quota of its
/// control group (v1 or v2, rounded up). At least 1.
int granted_cpus();

/// How many threads a rank takes, and what the user should know of it.
struct thread_choice {
  int threads = 1;
  std::string warning;  ///< empty = none
};

/// `wanted` threads where that is not 0, else OMP_NUM_THREADS (its first number; `omp` is its text or null),
/// else this rank's share of the `granted` processors, which `ranks` ranks may use. More threads than the
/// share are taken as asked for and warned of; fewer because of OMP_NUM_THREADS, which some launchers set
/// unasked, too.
thread_choice choose_threads(int wanted, const char* omp, int granted, int ranks);

/// Bytes left under the memory limit of this process's control group; a huge number without a limit.
std::size_t group_memory_left();

/// The same from given files, for tests: `root` stands for "/", and holds proc/self/cgroup and sys/fs/cgroup.
/// Quota in processors; 0 without one.
double group_cpu_quota(const std::string& root);
std::size_t group_memory_left(const std::string& root);

}  // namespace fastserve::kernels::cpu
