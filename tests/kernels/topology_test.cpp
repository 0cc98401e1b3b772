#include "kernels/cpu/topology.hpp"

#include <sched.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "fixture.hpp"

using namespace fastserve::kernels;

BOOST_AUTO_TEST_SUITE(topology)

namespace {

/// A root directory with files in it, gone when the test ends.
class fake_root {
 public:
  fake_root() {
    std::string pattern = (std::filesystem::temp_directory_path() / "fastserve_topology_XXXXXX").string();
    BOOST_REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~fake_root() { std::filesystem::remove_all(path_); }
  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path full = path_ + "/" + file;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream{full} << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(the_affinity_mask_counts) {
  cpu_set_t before;
  BOOST_REQUIRE_EQUAL(sched_getaffinity(0, sizeof before, &before), 0);
  BOOST_TEST(cpu::granted_cpus() >= 1);
  BOOST_TEST(cpu::granted_cpus() <= CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &before)) {
      CPU_SET(i, &one);
      break;
    }
  }
  BOOST_REQUIRE_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
  BOOST_TEST(cpu::granted_cpus() == 1);
  BOOST_REQUIRE_EQUAL(sched_setaffinity(0, sizeof before, &before), 0);
}

BOOST_AUTO_TEST_CASE(threads_follow_the_grant_unless_told_otherwise) {
  const auto threads = [](int wanted, const char* omp, int granted, int ranks) {
    return cpu::choose_threads(wanted, omp, granted, ranks).threads;
  };
  BOOST_TEST(threads(0, nullptr, 8, 1) == 8);
  BOOST_TEST(threads(0, nullptr, 8, 3) == 2);
  BOOST_TEST(threads(0, nullptr, 1, 4) == 1);
  BOOST_TEST(threads(3, "5", 8, 1) == 3);
  BOOST_TEST(threads(0, "5", 8, 1) == 5);
  BOOST_TEST(threads(0, "4,2", 8, 1) == 4);
  for (const char* nonsense : {"", "0", "-3", "many", "1e30", "nan"})
    BOOST_TEST(threads(0, nonsense, 8, 1) == 8, nonsense);
}

BOOST_AUTO_TEST_CASE(threads_beyond_the_grant_are_warned_of) {
  const auto warning = [](int wanted, const char* omp, int granted, int ranks) {
    return cpu::choose_threads(wanted, omp, granted, ranks).warning;
  };
  BOOST_TEST(warning(0, nullptr, 8, 1).empty());
  BOOST_TEST(warning(8, nullptr, 8, 1).empty());
  BOOST_TEST(warning(2, nullptr, 8, 1).empty());  // wanted so
  BOOST_TEST(warning(2, nullptr, 1, 1).find("2 threads a rank exceed what was granted: 1 processor;") == 0);
  BOOST_TEST(warning(4, nullptr, 8, 4).find("8 processors to 4 ranks") != std::string::npos);
  BOOST_TEST(warning(0, "16", 8, 1).find("exceed") != std::string::npos);
  BOOST_TEST(warning(0, "1", 8, 1).find("OMP_NUM_THREADS leaves processors idle: 1 thread a rank") == 0);
}

BOOST_AUTO_TEST_CASE(quota_of_control_groups_v2) {
  const fake_root root;
  BOOST_TEST(cpu::group_cpu_quota(root.path()) == 0.0);
  root.write("proc/self/cgroup", "0::/job/step\n");
  BOOST_TEST(cpu::group_cpu_quota(root.path()) == 0.0);
  root.write("sys/fs/cgroup/job/step/cpu.max", "max 100000\n");
  BOOST_TEST(cpu::group_cpu_quota(root.path()) == 0.0);
  root.write("sys/fs/cgroup/job/cpu.max", "250000 100000\n");
  BOOST_TEST(cpu::group_cpu_quota(root.path()) == 2.5);
  root.write("sys/fs/cgroup/job/step/cpu.max", "150000 100000\n");
  BOOST_TEST(cpu::group_cpu_quota(root.path()) == 1.5);
  root.write("sys/fs/cgroup/job/step/cpu.max", "nonsense\n");
  BOOST_TEST(cpu::group_cpu_quota(root.path()) == 2.5);
}

BOOST_AUTO_TEST_CASE(quota_of_control_groups_v1) {
  const fake_root root;
  root.write("proc/self/cgroup", "7:cpu,cpuacct:/batch/job\n3:memory:/batch\n0::/\n");
  root.write("sys/fs/cgroup/cpu/batch/job/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu/batch/job/cpu.cfs_period_us", "100000\n");
  BOOST_TEST(cpu::group_cpu_quota(root.path()) == 0.0);
  root.write("sys/fs/cgroup/cpu/batch/cpu.cfs_quota_us", "400000\n");
  root.write("sys/fs/cgroup/cpu/batch/cpu.cfs_period_us", "100000\n");
  BOOST_TEST(cpu::group_cpu_quota(root.path()) == 4.0);
}

BOOST_AUTO_TEST_CASE(memory_left_counts_the_page_cache_as_free) {
  const fake_root root;
  root.write("proc/self/cgroup", "0::/job\n");
  root.write("sys/fs/cgroup/job/memory.max", "max\n");
  BOOST_TEST(cpu::group_memory_left(root.path()) > std::size_t{1} << 60);
  root.write("sys/fs/cgroup/job/memory.max", "1000000\n");
  root.write("sys/fs/cgroup/job/memory.current", "700000\n");
  BOOST_TEST(cpu::group_memory_left(root.path()) == 300000U);
  root.write("sys/fs/cgroup/job/memory.stat", "anon 200000\nactive_file 100000\ninactive_file 150000\n");
  BOOST_TEST(cpu::group_memory_left(root.path()) == 550000U);
  root.write("sys/fs/cgroup/job/memory.current", "2000000\n");
  BOOST_TEST(cpu::group_memory_left(root.path()) == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
