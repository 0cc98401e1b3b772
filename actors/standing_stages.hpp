#pragma once

#include <cstdint>
#include <vector>

#include "planner/partition.hpp"

namespace fastserve::actors {

/// The pipeline that stood, put together from what the ranks left say of themselves: in order of the layers,
/// with stages of rank -1 where nobody has them. Empty when nobody has any, or several have the same.
std::vector<planner::stage_place> standing_stages(std::int32_t layers,
                                                  std::vector<planner::stage_place> said);

}  // namespace fastserve::actors
