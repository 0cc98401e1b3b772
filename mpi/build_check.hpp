#pragma once

#include <cstdint>
#include <string_view>

#include "mpi/environment.hpp"

namespace fastserve::mpi {

/// Version of frames and of what is in them. Raise it when their layout changes.
inline constexpr std::uint32_t protocol_version = 1;

/// Compares what must be equal for ranks to understand each other: this protocol, the CAF version, the number
/// of message types (`type_ids_end` = caf::id_block::NAME::end of the last block) and the program's
/// `version`. Collective. Throws one std::runtime_error, the same on all ranks, that names the first rank
/// which differs.
void require_same_build(environment& env, std::uint64_t type_ids_end, std::string_view version);

}  // namespace fastserve::mpi
