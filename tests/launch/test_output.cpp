#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "../support/temporary_folder.hpp"
#include "launch/job_status.hpp"
#include "launch/output.hpp"
#include "launch/survival.hpp"

using namespace fastserve::launch;

namespace {

/// The code that a process ends with which writes to `path` as its stdout; what it says comes into `error`.
int code_with_stdout(const char* path, const std::string& error, const std::function<int()>& write) {
  std::fflush(stdout);
  const auto pid = ::fork();
  if (pid == 0) {
    ::dup2(::open(path, O_WRONLY), 1);
    ::dup2(::open(error.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
    ::_exit(write());
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(output)

BOOST_AUTO_TEST_CASE(what_stdout_does_not_take_is_an_error) {
  const temporary_folder folder;
  const auto error = (folder / "error").string();
  const auto line = [] {
    std::puts("a line");
    return code_of_output(0);
  };
  BOOST_TEST(code_with_stdout("/dev/null", error, line) == 0);
  BOOST_TEST(folder.read("error").empty());
  if (!std::filesystem::exists("/dev/full")) return;
  BOOST_TEST(code_with_stdout("/dev/full", error, line) == 1);
  BOOST_TEST(folder.read("error") == "fastserve: stdout: No space left on device\n");
  // Noticed by whoever flushed before, and long texts, which are written at once.
  BOOST_TEST(code_with_stdout("/dev/full", error, [] {
               std::puts("a line");
               std::fflush(stdout);
               code_of_output(0);
               return code_of_output(0);
             }) == 1);
  BOOST_TEST(folder.read("error") == "fastserve: stdout: No space left on device\n");
  BOOST_TEST(code_with_stdout("/dev/full", error, [] {
               std::puts(std::string(100000, 'x').c_str());
               return code_of_output(75);
             }) == 75);
  BOOST_TEST(folder.read("error") == "fastserve: stdout: No space left on device\n");
}

BOOST_AUTO_TEST_CASE(a_job_status_is_of_this_job) {
  const temporary_folder folder;
  const auto file = folder.write("status", "0\n");
  ::setenv("FASTSERVE_STATUS_FILE", file.c_str(), 1);
  clear_job_status();
  BOOST_TEST(!std::filesystem::exists(file));
  BOOST_TEST(job_status_problem().empty());
  BOOST_TEST(std::filesystem::is_empty(folder.path()));
  write_job_status(75);
  BOOST_TEST(folder.read("status") == "75\n");
  for (const auto& bad : {folder / "none/status", folder.path()}) {
    ::setenv("FASTSERVE_STATUS_FILE", bad.c_str(), 1);
    clear_job_status();
    BOOST_TEST(job_status_problem().starts_with("FASTSERVE_STATUS_FILE: " + bad.string() + ": "));
  }
  ::unsetenv("FASTSERVE_STATUS_FILE");
  BOOST_TEST(job_status_problem().empty());
}

BOOST_AUTO_TEST_CASE(mpirun_is_told_by_what_it_hands_on) {
  ::unsetenv("OMPI_MCA_orte_launch");
  BOOST_TEST(!started_by_mpirun());
  ::setenv("OMPI_MCA_orte_launch", "1", 1);
  BOOST_TEST(started_by_mpirun());
  ::unsetenv("OMPI_MCA_orte_launch");
}

BOOST_AUTO_TEST_SUITE_END()
