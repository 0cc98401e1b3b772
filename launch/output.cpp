#include "launch/output.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>

namespace fastserve::launch {

namespace {

// A stream remembers that it failed and not why: what fails once more says it.
int reason_of_failure() {
  std::clearerr(stdout);
  errno = 0;
  std::fputc('\n', stdout);
  return std::fflush(stdout) == 0 ? 0 : errno;
}

}  // namespace

int code_of_output(int code) {
  static bool said = false;
  if (!said) {
    const bool failed = std::ferror(stdout) != 0;
    errno = 0;
    int reason = std::fflush(stdout) == 0 ? 0 : errno;
    if (!failed && reason == 0) return code;
    if (reason == 0) reason = reason_of_failure();
    said = true;
    std::fprintf(stderr, "fastserve: stdout: %s\n",
                 reason == 0 ? "not all of the output could be written" : std::strerror(reason));
  }
  return code == 0 ? 1 : code;
}

void write_file(const std::filesystem::path& path, std::string_view text, std::ios::openmode how) {
  errno = 0;
  std::ofstream out{path, std::ios::binary | how};
  out << text;
  if (!out.flush())
    throw std::runtime_error(path.string() + ": cannot be written" +
                             (errno == 0 ? "" : std::string{": "} + std::strerror(errno)));
}

}  // namespace fastserve::launch
