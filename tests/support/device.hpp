#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

// What a test program judges. Bodies that judge every device are compiled once; a program links
// device_cpu.cpp or device_cuda.cpp.

namespace fastserve::test {

/// A GPU, or the emulated one. Known before main(), as are the names.
extern const bool on_cuda;
/// An emulated thread costs as much as many elements of the CPU's: fewer and smaller shapes, all kinds of
/// them.
extern const bool emulated;

/// Every instruction set of this machine, or "cuda".
std::vector<std::string> devices();
/// One of devices(); none: the best. Threads are the CPU's.
std::unique_ptr<kernels::backend> make_device(int threads = 1, const std::string& device = {});

}  // namespace fastserve::test
