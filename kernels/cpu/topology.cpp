#include "kernels/cpu/topology.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>
#include <vector>

namespace fastserve::kernels::cpu {
namespace {

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max() / 2;

std::string first_line(const std::string& path) {
  std::ifstream file{path};
  std::string line;
  std::getline(file, line);
  return line;
}

/// A number, or `otherwise` for "max", nonsense and absence.
double number_in(const std::string& text, double otherwise) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end == text.c_str() ? otherwise : value;
}

/// Whether `controller` is one of "cpu,cpuacct"; "" is in the empty list only.
bool lists(const std::string& controllers, const std::string& controller) {
  if (controller.empty()) return controllers.empty();
  std::istringstream names{controllers};
  for (std::string name; std::getline(names, name, ',');) {
    if (name == controller) return true;
  }
  return false;
}

/// Page cache that the system gives back under pressure, from a group's memory.stat.
double reclaimable_bytes(const std::string& stat_file, const std::string& prefix) {
  std::ifstream file{stat_file};
  std::string key;
  double total = 0;
  for (double value = 0; file >> key >> value;) {
    if (key == prefix + "inactive_file" || key == prefix + "active_file") total += value;
  }
  return total;
}

/// Folders of this process's group of one controller ("" for v2), from its own up to the root of the
/// hierarchy: a limit of any of them binds.
std::vector<std::string> group_folders(const std::string& root, const std::string& controller) {
  std::ifstream file{root + "/proc/self/cgroup"};
  std::string path;
  bool found = false;
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/a/b", or "0::/a/b" for v2
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    if (!lists(line.substr(first + 1, second - first - 1), controller)) continue;
    path = line.substr(second + 1);
    found = true;
  }
  if (!found) return {};
  const std::string base = root + "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller);
  std::vector<std::string> folders;
  for (; path.size() > 1; path.erase(path.find_last_of('/'))) {
    folders.push_back(base + path);
    if (path.find('/') == std::string::npos) break;
  }
  folders.push_back(base);
  return folders;
}

}  // namespace

double group_cpu_quota(const std::string& root) {
  double least = 0;
  const auto consider = [&](double quota_us, double period_us) {
    if (quota_us <= 0 || period_us <= 0) return;
    const double cpus = quota_us / period_us;
    least = least == 0 ? cpus : std::min(least, cpus);
  };
  for (const auto& folder : group_folders(root, "")) {  // "max 100000" or "150000 100000"
    const auto line = first_line(folder + "/cpu.max");
    const auto space = line.find(' ');
    if (space != std::string::npos) consider(number_in(line, 0), number_in(line.substr(space), 0));
  }
  for (const auto& folder : group_folders(root, "cpu")) {
    consider(number_in(first_line(folder + "/cpu.cfs_quota_us"), 0),
             number_in(first_line(folder + "/cpu.cfs_period_us"), 0));
  }
  return least;
}

std::size_t group_memory_left(const std::string& root) {
  std::size_t least = no_limit;
  const auto consider = [&](const std::string& folder, const char* limit_file, const char* usage_file,
                            const char* prefix) {
    const double limit = number_in(first_line(folder + limit_file), -1);
    if (limit < 0 || limit >= static_cast<double>(no_limit)) return;
    const double used =
        number_in(first_line(folder + usage_file), 0) - reclaimable_bytes(folder + "/memory.stat", prefix);
    least = std::min(least,
                     used < limit ? static_cast<std::size_t>(limit - std::max(used, 0.0)) : std::size_t{0});
  };
  for (const auto& folder : group_folders(root, "")) {
    consider(folder, "/memory.max", "/memory.current", "");
  }
  for (const auto& folder : group_folders(root, "memory")) {
    consider(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_");
  }
  return least;
}

std::size_t group_memory_left() { return group_memory_left(""); }

int granted_cpus() {
  int cpus = 0;
  // Machines with more than 1024 processors need a larger mask than cpu_set_t.
  for (int size = 1024; size <= 1 << 16 && cpus == 0; size *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(size));
    if (set == nullptr) break;
    const auto bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(size));
    if (sched_getaffinity(0, bytes, set) == 0) cpus = CPU_COUNT_S(bytes, set);
    CPU_FREE(set);
  }
  if (cpus == 0) cpus = static_cast<int>(std::thread::hardware_concurrency());
  const double quota = group_cpu_quota("");
  if (quota > 0) cpus = std::min(cpus, static_cast<int>(std::ceil(quota)));
  return std::max(cpus, 1);
}

thread_choice choose_threads(int wanted, const char* omp, int granted, int ranks) {
  ranks = std::max(ranks, 1);
  const int fair = std::max(granted / ranks, 1);
  const double listed = omp == nullptr ? 0 : number_in(omp, 0);  // "4", or "4,2" for nested regions
  const int from_omp = listed >= 1 && listed <= 1 << 16 ? static_cast<int>(listed) : 0;
  thread_choice choice;
  choice.threads = wanted > 0 ? wanted : from_omp > 0 ? from_omp : fair;
  const auto shared = ranks == 1 ? std::string{} : " to " + std::to_string(ranks) + " ranks of this host";
  const auto grant = std::to_string(granted) + (granted == 1 ? " processor" : " processors") + shared;
  if (choice.threads > fair) {
    choice.warning =
        std::to_string(choice.threads) + " threads a rank exceed what was granted: " + grant +
        "; they will wait for each other (mpirun binds a rank to one core unless told otherwise: "
        "--bind-to none, or --map-by ppr:1:numa --bind-to numa)";
  } else if (wanted == 0 && from_omp > 0 && from_omp < fair) {
    choice.warning = "OMP_NUM_THREADS leaves processors idle: " + std::to_string(choice.threads) +
                     (choice.threads == 1 ? " thread" : " threads") + " a rank with " + grant;
  }
  return choice;
}

}  // namespace fastserve::kernels::cpu
