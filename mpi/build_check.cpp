#include "mpi/build_check.hpp"

#include <stdexcept>
#include <string>

#include "mpi/caf_compat.hpp"

namespace fastserve::mpi {

void require_same_build(environment& env, std::uint64_t type_ids_end, std::string_view version) {
  std::string mine{version.substr(0, 1024)};
  mine += ", protocol " + std::to_string(protocol_version) + ", CAF " + caf_version() + ", " +
          std::to_string(type_ids_end) + " message types, " + std::to_string(sizeof(void*) * 8) + " bits";
  const auto builds = env.allgather(mine);
  for (std::size_t r = 1; r < builds.size(); ++r)
    if (builds[r] != builds[0])
      throw std::runtime_error("the ranks run different builds: rank 0 (" + builds[0] + "), rank " +
                               std::to_string(r) + " (" + builds[r] +
                               "); install the same fastserve on all nodes");
}

}  // namespace fastserve::mpi
