#include "launch/job_status.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace fastserve::launch {

namespace {

// Empty when there is none.
std::string status_file() {
  const char* file = std::getenv("FASTSERVE_STATUS_FILE");
  return file == nullptr ? std::string{} : std::string{file};
}

// Renamed into place: a reader finds all of it or nothing.
std::string draft_of(const std::string& file) { return file + ".new"; }

}  // namespace

void clear_job_status() {
  const auto file = status_file();
  std::error_code none;
  if (!file.empty() && !std::filesystem::is_directory(file, none)) std::remove(file.c_str());
}

std::string job_status_problem() {
  const auto file = status_file();
  if (file.empty()) return {};
  std::error_code none;
  if (std::filesystem::is_directory(file, none)) return "FASTSERVE_STATUS_FILE: " + file + ": is a folder";
  std::FILE* out = std::fopen(draft_of(file).c_str(), "w");
  if (out == nullptr)
    return "FASTSERVE_STATUS_FILE: " + file + ": cannot be written: " + std::strerror(errno);
  std::fclose(out);
  std::remove(draft_of(file).c_str());
  return {};
}

void write_job_status(int exit_code) {
  const auto file = status_file();
  if (file.empty()) return;
  std::FILE* out = std::fopen(draft_of(file).c_str(), "w");
  if (out == nullptr) return;
  std::fprintf(out, "%d\n", exit_code);
  if (std::fclose(out) == 0) std::rename(draft_of(file).c_str(), file.c_str());
}

}  // namespace fastserve::launch
