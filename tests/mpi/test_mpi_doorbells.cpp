#define BOOST_TEST_NO_MAIN
#include "mpi_test.hpp"

#include <atomic>
#include <thread>

#include "mpi/doorbells.hpp"
#include "mpi/message_pump.hpp"

namespace fastserve::tests {
namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

BOOST_AUTO_TEST_CASE(neighbours_ring_each_other) {
  mpi::doorbells bells{world()};
  for (int peer = 0; peer < world().size(); ++peer)
    BOOST_CHECK_EQUAL(bells.rung_by(peer), world().is_local(peer));
  const auto before = bells.heard();
  world().barrier();
  const auto next = (world().rank() + 1) % world().size();
  bells.ring(next);
  const auto begin = clock_type::now();
  while (bells.heard() == before && clock_type::now() - begin < patience) bells.wait(before, 1s);
  BOOST_CHECK_EQUAL(bells.heard(), before + 1);
  world().barrier();
}

BOOST_AUTO_TEST_CASE(a_ring_before_the_sleep_is_not_slept_through) {
  mpi::doorbells bells{world()};
  const auto heard = bells.heard();
  bells.ring(world().rank());
  const auto begin = clock_type::now();
  bells.wait(heard, patience);
  BOOST_CHECK(clock_type::now() - begin < patience / 2);
  world().barrier();
}

BOOST_AUTO_TEST_CASE(a_sleeper_wakes_by_itself) {
  mpi::doorbells bells{world()};
  const auto begin = clock_type::now();
  while (clock_type::now() - begin < 20ms) bells.wait(bells.heard(), 5ms);  // a signal may end it early
  BOOST_CHECK(clock_type::now() - begin < patience);
  world().barrier();
}

// No ring is lost however ringing and falling asleep meet: else the sleeper would stay for `patience`.
BOOST_AUTO_TEST_CASE(hears_every_ring_of_another_thread) {
  mpi::doorbells bells{world()};
  constexpr int rings = 2000;
  std::atomic<int> taken{0};
  std::thread other{[&] {
    for (int i = 0; i < rings; ++i) {
      bells.ring(world().rank());
      while (taken.load() <= i) std::this_thread::yield();
    }
  }};
  auto heard = std::uint32_t{0};
  const auto begin = clock_type::now();
  for (int i = 0; i < rings; ++i) {
    while (bells.heard() == heard) bells.wait(heard, patience);
    heard = bells.heard();
    ++taken;
  }
  other.join();
  BOOST_CHECK(clock_type::now() - begin < patience);
  world().barrier();
}

// What is sent is seen long before a pump that sleeps would look by itself.
BOOST_AUTO_TEST_CASE(a_frame_wakes_a_pump_that_sleeps_for_long) {
  if (world().size() == 1 || world().local_size() < world().size()) return;
  mpi::pump_options options;
  options.rung_sleep = std::chrono::duration_cast<std::chrono::microseconds>(3 * patience);
  mpi::message_pump pump{world(), options};
  std::atomic<int> came{0};
  pump.set_handler(mpi::channel::user, [&](mpi::frame&&) { ++came; });
  pump.start();
  const auto next = (world().rank() + 1) % world().size();
  for (int i = 1; i <= 5; ++i) {
    std::this_thread::sleep_for(20ms);  // all are asleep
    pump.push(next, pump.make_frame(mpi::channel::user, 0, mpi::any_epoch, 8));
    const auto begin = clock_type::now();
    while (came < i && clock_type::now() - begin < patience) std::this_thread::sleep_for(1ms);
    BOOST_CHECK_GE(came.load(), i);
  }
  const auto report = pump.stop(patience);
  BOOST_CHECK_MESSAGE(report.clean, report.reason);
}

}  // namespace
}  // namespace fastserve::tests
