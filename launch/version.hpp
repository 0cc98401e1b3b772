#pragma once

#include <string>
#include <vector>

namespace fastserve::launch {

/// What `fastserve version` lists. The caller fills in what only a library can tell at run time.
struct version_facts {
  std::string mpi_library;                  ///< MPI_Get_library_version; only its first line is shown
  std::string caf;                          ///< "0.17.6"
  std::vector<std::string> supported_isas;  ///< kernels::supported_isas(), best last
  bool cuda = false;                        ///< compiled in
  std::vector<std::string> cuda_devices;    ///< found here
};

/// CAF's version as compiled against; empty when this was built without it.
std::string caf_version();

/// "0.1.0 (1a2b3c4)": the project's version, and the commit when it was configured in a Git checkout.
std::string program_version();

/// The text of `fastserve version`, lines of "name  value".
std::string format_version(const version_facts& facts);

}  // namespace fastserve::launch
