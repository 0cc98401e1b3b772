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
