#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "mpi/caf_compat.hpp"

namespace fastserve::mpi {

/// Why a message to another rank came back. A caf::error with one of these reaches whoever sent the request.
enum class transport_error : std::uint8_t {
  none = 0,
  peer_down,         ///< the rank was declared dead
  unknown_actor,     ///< no actor at that address (any more)
  unknown_role,      ///< that rank plays no such role
  queue_full,        ///< too much waits for a role that is not there yet, or to be sent
  not_serializable,  ///< a type in the message is not registered, or the message is too large
  malformed,         ///< the receiver could not read the message
  shutting_down      ///< the transport has stopped
};

std::string to_string(transport_error code);
bool from_string(std::string_view text, transport_error& code);
bool from_integer(std::uint8_t value, transport_error& code);
FASTSERVE_INSPECT_ENUM(transport_error)

}  // namespace fastserve::mpi

CAF_BEGIN_TYPE_ID_BLOCK(fastserve_mpi, caf::first_custom_type_id)
CAF_ADD_TYPE_ID(fastserve_mpi, (fastserve::mpi::transport_error))
CAF_END_TYPE_ID_BLOCK(fastserve_mpi)
FASTSERVE_ERROR_ENUM(fastserve::mpi::transport_error, "transport")

namespace fastserve::mpi {

/// The first type id that is free for the next block: CAF_BEGIN_TYPE_ID_BLOCK(name,
/// fastserve::mpi::next_type_id).
inline constexpr auto next_type_id = caf::id_block::fastserve_mpi::end;

}  // namespace fastserve::mpi
