#pragma once

namespace fastserve::kernels::cpu {

/// Keeps idle OpenMP threads from spinning for long. By default libgomp's threads spin for milliseconds after
/// a region (LLVM's for 200 ms), which starves whatever shares their cores, other ranks among it; and libgomp
/// takes another time only from the environment, as it is loaded. So unless OMP_WAIT_POLICY, GOMP_SPINCOUNT
/// or KMP_BLOCKTIME is set, this sets a short time (longer than the gap between two ops) and starts the
/// program anew in this process. Call it first thing in main(), before MPI_Init. Returns when there is
/// nothing (left) to do.
void bound_idle_spinning(char** argv);

}  // namespace fastserve::kernels::cpu
