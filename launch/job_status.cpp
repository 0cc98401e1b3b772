#include "launch/job_status.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace fastserve::launch {

void write_job_status(int exit_code) {
  const char* file = std::getenv("FASTSERVE_STATUS_FILE");
  if (file == nullptr || *file == 0) return;
  // Renamed into place: a reader finds all of it or nothing.
  const auto draft = std::string{file} + ".new";
  std::FILE* out = std::fopen(draft.c_str(), "w");
  if (out == nullptr) return;
  std::fprintf(out, "%d\n", exit_code);
  if (std::fclose(out) == 0) std::rename(draft.c_str(), file);
}

}  // namespace fastserve::launch
