#include "launch/version.hpp"

#if __has_include(<caf/config.hpp>)
#include <caf/config.hpp>
#endif

#include <string_view>

namespace fastserve::launch {

namespace {

std::string line(std::string_view name, std::string_view value) {
  constexpr std::size_t width = 18;
  std::string out{name};
  out.append(width - out.size(), ' ');
  return out + std::string{value} + '\n';
}

std::string joined(const std::vector<std::string>& words, std::string_view none) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += ", ";
    out += word;
  }
  return out.empty() ? std::string{none} : out;
}

std::string compiler() {
#if defined(__clang__)
  return "Clang " + std::to_string(__clang_major__) + '.' + std::to_string(__clang_minor__);
#elif defined(__GNUC__)
  return "GCC " + std::to_string(__GNUC__) + '.' + std::to_string(__GNUC_MINOR__);
#else
  return "unknown";
#endif
}

}  // namespace

std::string caf_version() {
#ifdef CAF_VERSION
  // major * 10000 + minor * 100 + patch
  constexpr int number = CAF_VERSION;
  return std::to_string(number / 10000) + '.' + std::to_string(number / 100 % 100) + '.' +
         std::to_string(number % 100);
#else
  return {};
#endif
}

std::string program_version() {
  const std::string_view commit = FASTSERVE_COMMIT;
  const std::string version = FASTSERVE_VERSION;
  return commit.empty() ? version : version + " (" + std::string{commit} + ")";
}

std::string format_version(const version_facts& facts) {
  const std::string mpi = facts.mpi_library.substr(0, facts.mpi_library.find_first_of("\r\n"));
  std::string cuda = facts.cuda ? "yes" : "no";
  if (facts.cuda) cuda += ", devices: " + joined(facts.cuda_devices, "none");
  return line("FastServe", program_version()) + line("compiler", compiler()) +
         line("MPI", mpi.empty() ? "unknown" : mpi) + line("CAF", facts.caf.empty() ? "unknown" : facts.caf) +
         line("CUDA", cuda) + line("instruction sets", joined(facts.supported_isas, "unknown"));
}

}  // namespace fastserve::launch
