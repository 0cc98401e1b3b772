#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

// Present only in builds with CUDA: link fastserve::kernels_cuda, where that target exists.

namespace fastserve::kernels {

struct cuda_device {
  std::string name;  ///< "NVIDIA H100 80GB HBM3"
  std::string uuid;  ///< no other device has it
};

/// NVIDIA GPUs that this process may use, by ordinal. Empty without a GPU or driver.
std::vector<cuda_device> cuda_devices();

/// One GPU. Throws std::runtime_error when there is none of that ordinal or it cannot be used.
///
/// Ops are queued on their stream and return at once; `download` and `host_read` return when they are
/// complete, and `upload`'s source may be reused on return. Scratch memory is kept between calls and grows
/// only, so steps allocate nothing once the largest was seen. Ops of a step belong on one stream: they share
/// that scratch. Blocks may be moved on another stream by another thread meanwhile. Recorders keep decode
/// steps as CUDA graphs, unless FASTSERVE_CUDA_GRAPHS is 0 (kernels/cuda/graphs.hpp).
std::unique_ptr<backend> make_cuda_backend(int ordinal);

}  // namespace fastserve::kernels
