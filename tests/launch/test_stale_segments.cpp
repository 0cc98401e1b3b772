#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <string>

#include "launch/stale_segments.hpp"

namespace fs = std::filesystem;
using fastserve::launch::remove_stale_segments;

namespace {

std::string host() {
  std::array<char, 256> name{};
  BOOST_REQUIRE(::gethostname(name.data(), name.size() - 1) == 0);
  return name.data();
}

/// A folder in shared memory, as the segments' own.
struct folder {
  fs::path path;
  folder() {
    std::string name = "/dev/shm/fastserve-test.XXXXXX";
    BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~folder() { fs::remove_all(path); }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;

  /// An open file of one page.
  int make(const std::string& name) const {
    const int fd = ::open((path / name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    BOOST_REQUIRE(fd >= 0);
    BOOST_REQUIRE(::ftruncate(fd, 4096) == 0);
    return fd;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(stale_segments_suite)

BOOST_AUTO_TEST_CASE(removes_what_nobody_maps_and_nothing_else) {
  const folder f;
  const auto mine = "." + host() + "." + std::to_string(::geteuid()) + ".";
  ::close(f.make("vader_segment" + mine + "1a2b0001.0"));
  ::close(f.make("sm_segment" + mine + "1a2b0001.1"));
  ::close(f.make("vader_segment.another-" + host() + "." + std::to_string(::geteuid()) + ".1.0"));
  ::close(f.make("vader_segment." + host() + ".4242.1.0"));
  ::close(f.make("something_else" + mine + "1.0"));
  const int open = f.make("vader_segment" + mine + "2.0");
  const int closed = f.make("vader_segment" + mine + "3.0");
  void* mapped = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, closed, 0);
  BOOST_REQUIRE(mapped != MAP_FAILED);
  ::close(closed);

  BOOST_TEST(remove_stale_segments(f.path) == 2U);
  BOOST_TEST(!fs::exists(f.path / ("vader_segment" + mine + "1a2b0001.0")));
  BOOST_TEST(fs::exists(f.path / ("vader_segment" + mine + "2.0")));
  BOOST_TEST(fs::exists(f.path / ("vader_segment" + mine + "3.0")));
  BOOST_TEST(std::distance(fs::directory_iterator{f.path}, {}) == 5);

  ::close(open);
  ::munmap(mapped, 4096);
  BOOST_TEST(remove_stale_segments(f.path) == 2U);
  BOOST_TEST(remove_stale_segments(f.path) == 0U);
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_not_there_is_no_error) {
  BOOST_TEST(remove_stale_segments("/nowhere/at/all") == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
