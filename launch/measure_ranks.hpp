#pragma once

#include <optional>
#include <vector>

#include "actors/measured_speed.hpp"
#include "mpi/environment.hpp"

namespace fastserve::launch {

/// This rank's speed: measured with all ranks at once, as they compute when a pipeline is full, then with the
/// ranks of a host in turn. Nothing when there is no memory to spare for it. Collective.
std::optional<actors::rank_speed> measure_ranks(kernels::backend& on,
                                                const std::vector<planner::arithmetic>& kinds,
                                                mpi::environment& env);

}  // namespace fastserve::launch
