#include "mpi/errors.hpp"

#include <array>
#include <utility>

namespace fastserve::mpi {
namespace {

constexpr std::array<std::pair<transport_error, std::string_view>, 8> names{{
    {transport_error::none, "none"},
    {transport_error::peer_down, "peer down"},
    {transport_error::unknown_actor, "unknown actor"},
    {transport_error::unknown_role, "unknown role"},
    {transport_error::queue_full, "queue full"},
    {transport_error::not_serializable, "not serializable"},
    {transport_error::malformed, "malformed"},
    {transport_error::shutting_down, "shutting down"},
}};

}  // namespace

std::string to_string(transport_error code) {
  for (const auto& [value, text] : names)
    if (value == code) return std::string{text};
  return "transport error " + std::to_string(static_cast<int>(code));
}

bool from_string(std::string_view text, transport_error& code) {
  for (const auto& [value, name] : names) {
    if (name != text) continue;
    code = value;
    return true;
  }
  return false;
}

bool from_integer(std::uint8_t value, transport_error& code) {
  if (value >= names.size()) return false;
  code = static_cast<transport_error>(value);
  return true;
}

}  // namespace fastserve::mpi
