#pragma once

#include <string>

#include "kernels/backend.hpp"
#include "kernels/dtype.hpp"

namespace fastserve::kernels {

/// What this machine can do at best, to state speeds as fractions of it. Each call measures for about 0.2 s
/// with `threads` OpenMP threads, and takes the best of a few rounds. Neighbours on a shared machine move
/// these figures: measure beside what is compared.

/// Bytes read a second from memory far larger than the caches.
double measure_read_bandwidth(int threads);

/// Multiply-add rate of the instruction that products of weights of this type run on, from registers; a
/// multiply-add counts as two operations. `isa` as for make_cpu_backend.
double measure_peak_ops(dtype type, int threads, const std::string& isa = {});

/// Bytes read and written a second when a gigabyte is copied within the memory of a back end's device.
double measure_copy_bandwidth(backend& on);

}  // namespace fastserve::kernels
