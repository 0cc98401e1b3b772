/// main() of test programs that run under mpirun: a failure on any rank fails the program, and a rank that
/// hangs is ended, with the name of the test case.
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <thread>

#include "mpi_test.hpp"

namespace fastserve::tests {
namespace {

mpi::environment* the_world = nullptr;

class watchdog {
 public:
  watchdog() : thread_{[this] { run(); }} {}
  ~watchdog() {
    {
      const std::lock_guard lock{mutex_};
      over_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

 private:
  void run() {
    constexpr std::chrono::seconds limit{240};
    std::unique_lock lock{mutex_};
    if (wake_.wait_for(lock, limit, [this] { return over_; })) return;
    std::cerr << "rank " << the_world->rank() << " hangs in "
              << boost::unit_test::framework::current_test_case().full_name() << std::endl;
    std::_Exit(3);  // mpirun ends the others
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace

mpi::environment& world() { return *the_world; }

}  // namespace fastserve::tests

int main(int argc, char** argv) {
  using namespace fastserve;
  mpi::environment env{&argc, &argv};
  tests::the_world = &env;
  const tests::watchdog dog;
  const int result = boost::unit_test::unit_test_main([] { return true; }, argc, argv);
  if (result != 0) std::_Exit(result);  // others may wait in vain for this rank: mpirun ends them
  const auto failure = env.agree({});
  return failure ? EXIT_FAILURE : EXIT_SUCCESS;
}
