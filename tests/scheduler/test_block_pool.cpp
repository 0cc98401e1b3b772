#include <boost/test/unit_test.hpp>
#include <random>

#include "scheduler/block_pool.hpp"

namespace sched = fastserve::scheduler;

BOOST_AUTO_TEST_SUITE(block_pool)

BOOST_AUTO_TEST_CASE(takes_all_or_nothing) {
  sched::block_pool pool{4};
  std::vector<std::int32_t> a;
  BOOST_TEST(pool.allocate(3, a));
  BOOST_TEST(a == (std::vector<std::int32_t>{0, 1, 2}), boost::test_tools::per_element());
  std::vector<std::int32_t> b;
  BOOST_TEST(!pool.allocate(2, b));
  BOOST_TEST(b.empty());
  BOOST_TEST(pool.free_blocks() == 1);
  pool.release_all(a);
  BOOST_TEST(pool.free_blocks() == 4);
  pool.check_integrity();
}

BOOST_AUTO_TEST_CASE(frees_with_the_last_holder) {
  sched::block_pool pool{2};
  std::vector<std::int32_t> a;
  BOOST_REQUIRE(pool.allocate(1, a));
  pool.retain(a[0]);
  pool.release(a[0]);
  BOOST_TEST(pool.free_blocks() == 1);
  pool.release(a[0]);
  BOOST_TEST(pool.free_blocks() == 2);
}

BOOST_AUTO_TEST_CASE(counts_blocks) {
  BOOST_TEST(sched::blocks_for(0) == 0);
  BOOST_TEST(sched::blocks_for(1) == 1);
  BOOST_TEST(sched::blocks_for(16) == 1);
  BOOST_TEST(sched::blocks_for(17) == 2);
}

BOOST_AUTO_TEST_CASE(what_came_back_is_taken_first) {
  sched::block_pool pool{1 << 28};  // costs no memory until it is taken
  std::vector<std::int32_t> a, b;
  BOOST_REQUIRE(pool.allocate(3, a));
  pool.release(1);
  BOOST_TEST(pool.references(1) == 0);
  BOOST_TEST(pool.references((1 << 28) - 1) == 0);
  BOOST_TEST(pool.free_blocks() == (1 << 28) - 2);
  BOOST_REQUIRE(pool.allocate(2, b));
  BOOST_TEST(b == (std::vector<std::int32_t>{1, 3}), boost::test_tools::per_element());
  pool.check_integrity();
}

// 100 000 random operations against a plain count of holders.
BOOST_AUTO_TEST_CASE(agrees_with_a_naive_model) {
  std::mt19937 random{7};
  sched::block_pool pool{64};
  std::vector<int> holders(64, 0);
  for (int i = 0; i < 100'000; ++i) {
    const auto block = static_cast<std::int32_t>(random() % 64);
    const auto at = static_cast<std::size_t>(block);
    switch (random() % 3) {
      case 0: {
        std::vector<std::int32_t> got;
        const auto n = static_cast<std::int32_t>(random() % 6);
        const auto free = static_cast<std::int32_t>(std::count(holders.begin(), holders.end(), 0));
        BOOST_REQUIRE_EQUAL(pool.allocate(n, got), n <= free);
        for (const auto b : got) BOOST_REQUIRE_EQUAL(holders[static_cast<std::size_t>(b)]++, 0);
        break;
      }
      case 1:
        if (holders[at] > 0) {
          pool.retain(block);
          ++holders[at];
        }
        break;
      default:
        if (holders[at] > 0) {
          pool.release(block);
          --holders[at];
        }
    }
    BOOST_REQUIRE_EQUAL(pool.free_blocks(), std::count(holders.begin(), holders.end(), 0));
  }
  pool.check_integrity();
}

BOOST_AUTO_TEST_SUITE_END()
