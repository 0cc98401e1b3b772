#pragma once

#include <chrono>

namespace fastserve::actors {

/// Of which other ranks a leader knows. By the leader's clock (actors/clock.hpp).
struct leader_footing {
  int standby = -1;                          ///< the rank that would take over; none: -1
  std::chrono::nanoseconds most_heard{};     ///< at least half of those not lost were heard then or later
  std::chrono::nanoseconds sight_lost_at{};  ///< the last loss of a rank that may still be alive; none: 0
};

}  // namespace fastserve::actors
