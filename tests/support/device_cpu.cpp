#include "device.hpp"

namespace fastserve::test {

const bool on_cuda = false;
const bool emulated = false;

std::vector<std::string> devices() { return kernels::supported_isas(); }

std::unique_ptr<kernels::backend> make_device(int threads, const std::string& device) {
  return kernels::make_cpu_backend(threads, device);
}

}  // namespace fastserve::test
