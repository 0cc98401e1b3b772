// Tests of the CUDA back end need a GPU: without one they are skipped, visibly, and never pass.
#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include <boost/test/unit_test.hpp>
#include <iostream>

#include "kernels/cuda/cuda_backend.hpp"

int main(int argc, char** argv) {
  const auto devices = fastserve::kernels::cuda_devices();
  if (devices.empty()) {
    std::cout << "skipped: no CUDA device here\n";
    return 77;
  }
  std::cout << "on " << devices.front().name << "\n";
  return boost::unit_test::unit_test_main([] { return true; }, argc, argv);
}
