#pragma once

#include <mpi.h>

namespace fastserve::mpi {

/// Throws std::runtime_error with MPI's own text unless `code` is MPI_SUCCESS: check(MPI_Isend(...),
/// "MPI_Isend").
void check(int code, const char* what);

/// Waits without spinning: yields at first, then sleeps in steps of up to 1 ms. For start-up collectives,
/// whose partners may be busy for seconds; the blocking calls would burn a core meanwhile.
void wait(MPI_Request& request, const char* what);

}  // namespace fastserve::mpi
