#include "planner/partition.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <random>

namespace plan = fastserve::planner;

namespace {

constexpr std::size_t plenty = std::size_t{1} << 40;

std::vector<plan::rank_offer> ranks(int n, std::size_t memory = plenty) {
  std::vector<plan::rank_offer> out;
  for (int i = 0; i < n; ++i) out.push_back({i, 1.0, memory});
  return out;
}

// Tries every cut.
double best_by_force(const plan::model_cost& m, const std::vector<plan::rank_offer>& offers,
                     std::size_t stage, std::int32_t first) {
  const auto left = static_cast<std::int32_t>(offers.size() - stage);
  double best = 1e300;
  for (std::int32_t last = first + 1; last <= m.layers - left + 1; ++last) {
    if (left == 1 && last != m.layers) continue;
    auto bytes = static_cast<std::size_t>(last - first) * m.layer_bytes;
    auto cost = (last - first) * m.layer;
    if (first == 0) cost += m.embedding, bytes += m.embedding_bytes;
    if (last == m.layers) cost += m.head, bytes += m.head_bytes;
    if (bytes > offers[stage].memory_bytes) continue;
    const auto rest = last == m.layers ? 0.0 : best_by_force(m, offers, stage + 1, last);
    best = std::min(best, std::max(cost / offers[stage].speed, rest));
  }
  return best;
}

}  // namespace

BOOST_AUTO_TEST_CASE(covers_every_layer_once_in_order) {
  plan::model_cost m{.layers = 22, .layer = 1, .head = 3};
  for (int n = 1; n <= 30; ++n) {
    const auto p = plan::partition(m, ranks(n));
    BOOST_REQUIRE(p.error.empty());
    BOOST_TEST(p.stages.size() == static_cast<std::size_t>(std::min(n, 22)));
    BOOST_TEST(p.spares.size() == static_cast<std::size_t>(std::max(0, n - 22)));
    std::int32_t next = 0;
    for (const auto& s : p.stages) {
      BOOST_TEST(s.first_layer == next);
      BOOST_TEST(s.last_layer > s.first_layer);
      next = s.last_layer;
    }
    BOOST_TEST(next == 22);
  }
}

BOOST_AUTO_TEST_CASE(gives_the_rank_with_the_head_fewer_layers) {
  plan::model_cost m{.layers = 10, .layer = 1, .head = 4};
  const auto p = plan::partition(m, ranks(2));
  BOOST_TEST(p.stages[0].last_layer == 7);
  BOOST_TEST(p.slowest == 7);
}

BOOST_AUTO_TEST_CASE(says_how_much_memory_is_missing) {
  constexpr std::size_t mib = 1 << 20;
  plan::model_cost m{.layers = 4, .layer_bytes = 100 * mib, .head_bytes = 50 * mib};
  const auto p = plan::partition(m, ranks(2, 200 * mib));
  BOOST_TEST(p.stages.empty());
  BOOST_TEST(p.error.find("450 MiB") != std::string::npos);
  BOOST_TEST(p.error.find("400 MiB") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(is_optimal_on_small_cases) {
  std::mt19937 random{3};
  int infeasible = 0;
  for (int i = 0; i < 2000; ++i) {
    plan::model_cost m;
    const auto n = static_cast<int>(1 + random() % 4);
    m.layers = static_cast<std::int32_t>(n + static_cast<int>(random() % 8));
    m.layer = 1 + random() % 5;
    m.embedding = random() % 4;
    m.head = random() % 12;
    m.layer_bytes = 10;
    m.embedding_bytes = random() % 30;
    m.head_bytes = random() % 30;
    auto offers = ranks(n);
    for (auto& o : offers) {
      o.speed = 1 + random() % 4;
      o.memory_bytes = 20 + random() % 120;
    }
    const auto got = plan::partition(m, offers);
    const auto want = best_by_force(m, offers, 0, 0);
    if (want == 1e300) {
      ++infeasible;
      BOOST_REQUIRE(!got.error.empty());
    } else {
      BOOST_REQUIRE(got.error.empty());
      BOOST_REQUIRE_CLOSE(got.slowest, want, 1e-9);
    }
  }
  BOOST_TEST(infeasible > 50);
  BOOST_TEST(infeasible < 1500);
}

BOOST_AUTO_TEST_CASE(a_spare_takes_the_place_of_a_lost_rank) {
  const plan::model_cost m{.layers = 12, .layer_bytes = 10};
  auto all = ranks(6);
  const auto before = plan::partition(m, {all.begin(), all.begin() + 4});
  all.erase(all.begin() + 1);
  const auto after = plan::plan_again(m, all, before.stages);
  BOOST_REQUIRE(after.stages.size() == 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    BOOST_TEST(after.stages[i].rank == (i == 1 ? 4 : before.stages[i].rank));
    BOOST_TEST(after.stages[i].first_layer == before.stages[i].first_layer);
    BOOST_TEST(after.stages[i].last_layer == before.stages[i].last_layer);
  }
  BOOST_TEST(after.spares == std::vector<int>{5}, boost::test_tools::per_element());

  // One too small is no help, the next one is.
  all[3].memory_bytes = 20;
  BOOST_TEST(plan::plan_again(m, all, before.stages).stages[1].rank == 5);
}

BOOST_AUTO_TEST_CASE(without_a_spare_the_layers_are_spread_or_refused) {
  const plan::model_cost m{.layers = 12, .layer_bytes = std::size_t{1} << 20};
  auto all = ranks(4, std::size_t{5} << 20);
  const auto before = plan::partition(m, all);
  all.erase(all.begin() + 2);
  const auto after = plan::plan_again(m, all, before.stages);
  BOOST_REQUIRE(after.stages.size() == 3U);
  BOOST_TEST(after.slowest == 4);
  all.pop_back();
  const auto none = plan::plan_again(m, all, before.stages);
  BOOST_TEST(none.stages.empty());
  BOOST_TEST(none.error.find("needs 12 MiB in 2 ranks, which offer 10 MiB") != std::string::npos);
}
