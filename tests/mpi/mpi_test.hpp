#pragma once

#include <boost/test/unit_test.hpp>

#include <chrono>

#include "mpi/environment.hpp"

namespace fastserve::tests {

/// MPI of this test program. Test cases run on all ranks in the same order; everything in them that waits for
/// another rank has a deadline, so that a rank which fails early leaves nobody hanging.
mpi::environment& world();

inline constexpr std::chrono::seconds patience{20};

}  // namespace fastserve::tests
