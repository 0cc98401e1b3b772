#define BOOST_TEST_NO_MAIN
#include "mpi_test.hpp"

#include <thread>

#include "cpu_seconds.hpp"
#include "mpi/message_pump.hpp"

namespace fastserve::tests {
namespace {

using namespace std::chrono_literals;

// The goal is 2% of a core (bench_latency prints the figure); twice that is allowed here, for slow virtual
// machines and sanitizers. Polling without back-off would take 100%.
BOOST_AUTO_TEST_CASE(an_idle_rank_leaves_its_core_to_others) {
  mpi::message_pump pump{world()};
  pump.start();
  std::this_thread::sleep_for(500ms);
  const auto before = cpu_seconds();
  const auto polls = pump.stats().polls;
  std::this_thread::sleep_for(2s);
  const auto share = (cpu_seconds() - before) / 2;
  BOOST_CHECK_LT(share, 0.04);
  // Neighbours ring, so a rank looks by itself only now and then; across machines it has to look more often.
  const bool rung = world().local_size() == world().size();
  BOOST_CHECK_LT(pump.stats().polls - polls, rung ? 300U : 3000U);
  const auto report = pump.stop(patience);
  BOOST_CHECK_MESSAGE(report.clean, report.reason);
}

// As between machines: a rank that nobody rings looks about once a millisecond, and no more often.
BOOST_AUTO_TEST_CASE(a_rank_that_is_not_rung_looks_by_itself) {
  if (world().size() == 1) return;  // nobody would send
  mpi::pump_options options;
  options.rung_sleep = 0us;
  mpi::message_pump pump{world(), options};
  pump.start();
  std::this_thread::sleep_for(500ms);
  const auto polls = pump.stats().polls;
  std::this_thread::sleep_for(1s);
  const auto more = pump.stats().polls - polls;
  BOOST_CHECK_GT(more, 100U);  // 1,000 on an idle machine
  BOOST_CHECK_LT(more, 1500U);
  const auto report = pump.stop(patience);
  BOOST_CHECK_MESSAGE(report.clean, report.reason);
}

}  // namespace
}  // namespace fastserve::tests
