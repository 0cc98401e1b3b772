#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <csignal>
#include <thread>

#include "launch/batch_signals.hpp"

using namespace fastserve::launch;
using namespace std::chrono_literals;

namespace {

bool becomes(const std::atomic<int>& value, int wanted) {
  for (int i = 0; i < 500 && value != wanted; ++i) std::this_thread::sleep_for(10ms);
  return value == wanted;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(signals_suite)

BOOST_AUTO_TEST_CASE(the_first_drains_and_another_one_ends) {
  std::atomic<int> first{0};
  std::atomic<int> second{0};
  const batch_signals signals{[&](int n) { first = n; }, [&](int n) { second = n; }};
  ::kill(::getpid(), SIGUSR1);
  BOOST_TEST(becomes(first, SIGUSR1));
  ::kill(::getpid(), SIGTERM);
  BOOST_TEST(becomes(second, SIGTERM));
}

BOOST_AUTO_TEST_CASE(the_first_drains_and_one_that_comes_later_ends) {
  std::atomic<int> first{0};
  std::atomic<int> second{0};
  std::atomic<int> count{0};
  batch_signals signals{[&](int n) {
                          first = n;
                          ++count;
                        },
                        [&](int n) { second = n; }};
  ::kill(::getpid(), SIGUSR1);
  BOOST_TEST(becomes(first, SIGUSR1));
  ::kill(::getpid(), SIGUSR1);  // the same request by another way
  std::this_thread::sleep_for(1100ms);
  BOOST_TEST(second == 0);
  ::kill(::getpid(), SIGUSR1);
  BOOST_TEST(becomes(second, SIGUSR1));
  BOOST_TEST(count == 1);
}

BOOST_AUTO_TEST_CASE(goes_without_a_signal) {
  const batch_signals signals{[](int) {}, [](int) {}};
  BOOST_TEST(std::string{name_of_signal(SIGTERM)} == "SIGTERM");
}

BOOST_AUTO_TEST_SUITE_END()
