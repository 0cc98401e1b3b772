#pragma once

#include "launch/options.hpp"
#include "mpi/environment.hpp"

namespace fastserve::launch {

/// OpenMP threads of this rank: what was asked for, or its part of the granted cores. Collective.
int choose_threads(const options& settings, mpi::environment& env);

}  // namespace fastserve::launch
