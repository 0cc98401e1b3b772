// A rank goes on sending to one that has died, over TCP, before MPI could tell: MPI must come back
// (mpi/environment.cpp, scoped_defaults). Not under Boost.Test, for the job ends without MPI_Finalize. Run
// with two ranks by
//   FASTSERVE_STATUS_FILE=... mpirun --enable-recovery --mca btl self,tcp --mca btl_tcp_if_include lo
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "launch/job_status.hpp"
#include "mpi/environment.hpp"

namespace {

using namespace std::chrono_literals;

[[noreturn]] void end(int code) {
  fastserve::launch::write_job_status(code);
  ::_exit(code);
}

}  // namespace

int main(int argc, char** argv) {
  fastserve::mpi::environment env{&argc, &argv};
  if (env.size() != 2) {
    std::fprintf(stderr, "dead_peer wants two ranks\n");
    return 2;
  }
  const auto comm = env.comm();
  int word = 0;
  // Connected in both directions, and each knows the other's process.
  if (env.rank() == 1) {
    const auto pid = static_cast<int>(::getpid());
    MPI_Send(&pid, 1, MPI_INT, 0, 0, comm);
    MPI_Recv(&word, 1, MPI_INT, 0, 0, comm, MPI_STATUS_IGNORE);
    ::raise(SIGKILL);
  }
  MPI_Recv(&word, 1, MPI_INT, 1, 0, comm, MPI_STATUS_IGNORE);
  MPI_Send(&word, 1, MPI_INT, 1, 0, comm);
  while (::kill(word, 0) == 0) std::this_thread::sleep_for(10ms);

  std::signal(SIGALRM, [](int) {
    constexpr char text[] = "FAILED: MPI does not come back\n";
    [[maybe_unused]] const auto n = ::write(2, text, sizeof text - 1);
    end(1);
  });
  ::alarm(20);
  // Nothing reads meanwhile: the first one is answered by a reset, the second finds the socket broken, and
  // the third opens another.
  std::array<MPI_Request, 6> sent{};
  const std::array<int, 6> what{};
  for (std::size_t i = 0; i < sent.size(); ++i) {
    MPI_Isend(&what.at(i), 1, MPI_INT, 1, 1, comm, &sent.at(i));
    std::this_thread::sleep_for(50ms);
  }
  int done = 0;
  for (int i = 0; i < 100; ++i) {
    std::array<int, 6> which{};
    MPI_Testsome(static_cast<int>(sent.size()), sent.data(), &done, which.data(), MPI_STATUSES_IGNORE);
    std::this_thread::sleep_for(1ms);
  }
  std::printf("MPI came back from a dead rank\n");
  std::fflush(stdout);
  end(0);
}
