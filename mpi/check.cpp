#include "mpi/check.hpp"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

namespace fastserve::mpi {

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING + 1] = {};
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) length = 0;
  throw std::runtime_error(std::string{what} + ": " +
                           (length > 0 ? std::string(text, static_cast<std::size_t>(length))
                                       : "MPI error " + std::to_string(code)));
}

void wait(MPI_Request& request, const char* what) {
  using namespace std::chrono_literals;
  constexpr int yields = 500;
  auto pause = 20us;
  for (int polls = 0;; ++polls) {
    int done = 0;
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what);
    if (done != 0) return;
    if (polls < yields) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, 1000us);
    }
  }
}

}  // namespace fastserve::mpi
