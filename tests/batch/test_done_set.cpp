#include <boost/test/unit_test.hpp>
#include <numeric>
#include <random>
#include <set>

#include "launch/batch_done_set.hpp"

using namespace fastserve::launch;

namespace {

input_position place_of(std::uint64_t request) { return {request + 3, 100 * request + 7}; }

}  // namespace

BOOST_AUTO_TEST_SUITE(done_set_suite)

BOOST_AUTO_TEST_CASE(agrees_with_a_plain_set_in_any_order) {
  std::mt19937 random{1};
  for (int round = 0; round < 300; ++round) {
    std::vector<std::uint64_t> order(1 + random() % 60);
    std::iota(order.begin(), order.end(), 0U);
    std::shuffle(order.begin(), order.end(), random);
    done_set set;
    std::set<std::uint64_t> plain;
    for (const auto request : order) {
      BOOST_TEST(set.add(request, place_of(request)));
      plain.insert(request);
      BOOST_TEST(!set.add(request, {}));
      std::uint64_t missing = 0;
      while (plain.contains(missing)) ++missing;
      BOOST_TEST(set.first_missing() == missing);
      BOOST_TEST(set.count() == plain.size());
      BOOST_TEST((set.resume_at() == (missing == 0 ? input_position{} : place_of(missing - 1))));
      for (std::uint64_t i = 0; i <= order.size(); ++i) BOOST_TEST(set.contains(i) == plain.contains(i));
    }
    BOOST_TEST(set.intervals() == 1U);
  }
}

BOOST_AUTO_TEST_CASE(stays_small_when_requests_finish_nearly_in_order) {
  // 64 open at a time, any of them finishes next; one stays open for long.
  std::mt19937 random{2};
  done_set set;
  std::vector<std::uint64_t> open;
  std::uint64_t next = 1;
  std::size_t most = 0;
  for (int step = 0; step < 200000; ++step) {
    while (open.size() < 64) open.push_back(next++);
    std::swap(open[random() % open.size()], open.back());
    set.add(open.back(), {});
    open.pop_back();
    most = std::max(most, set.intervals());
  }
  BOOST_TEST(most <= 65U);
  BOOST_TEST(set.first_missing() == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
