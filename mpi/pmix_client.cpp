#include "mpi/pmix_client.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <string_view>

namespace fastserve::mpi {

bool started_by_slurm_pmix() {
  const char* job = std::getenv("PMIX_NAMESPACE");
  return job != nullptr && std::string_view{job}.starts_with("slurm.pmix.");
}

bool leave_pmix() {
  // The library that MPI has loaded, and no other: Open MPI's plugins keep its names to themselves.
  void* library = ::dlopen("libpmix.so.2", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  // As in pmix.h, version 2 and later: int PMIx_Initialized(void), int PMIx_Finalize(const pmix_info_t*,
  // size_t).
  const auto initialized = reinterpret_cast<int (*)()>(::dlsym(library, "PMIx_Initialized"));
  const auto finalize =
      reinterpret_cast<int (*)(const void*, std::size_t)>(::dlsym(library, "PMIx_Finalize"));
  if (initialized == nullptr || finalize == nullptr) return false;
  // Initialised once by each part of MPI that uses it; the last call of as many counts.
  constexpr int most = 16;
  for (int i = 0; i < most && initialized() != 0; ++i) finalize(nullptr, 0);
  return initialized() == 0;
}

}  // namespace fastserve::mpi
