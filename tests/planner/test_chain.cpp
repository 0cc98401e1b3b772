#include "planner/chain.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <limits>
#include <numeric>
#include <random>

namespace plan = fastserve::planner;
using plan::chain_goal;

namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

// Tries every way to hand the layers from `first` on to ranks behind `path`, any of them next.
struct by_force {
  const plan::chain_problem& p;
  chain_goal goal;
  bool in_order;
  std::size_t most = 99;
  double best = infinite;
  std::vector<bool> used = std::vector<bool>(p.ranks.size());

  void go(std::int32_t first, std::size_t previous, std::size_t stages, double so_far) {
    if (first == p.layers) {
      best = std::min(best, so_far);
      return;
    }
    if (stages == most) return;
    for (std::size_t r = 0; r < p.ranks.size(); ++r) {
      if (used[r] || (in_order && stages > 0 && r <= previous)) continue;
      const auto hop = stages > 0 ? p.hop(previous, r) : 0.0;
      for (auto last = first + 1; last <= p.layers; ++last) {
        const bool heads = last == p.layers;
        if (p.bytes(last - first, stages == 0, heads) > p.ranks[r].memory_bytes) continue;
        const auto t = p.ranks[r].time.seconds(last - first, stages == 0, heads);
        used[r] = true;
        go(last, r, stages + 1, goal == chain_goal::slowest ? std::max({so_far, hop, t}) : so_far + hop + t);
        used[r] = false;
      }
    }
  }
};

double force(const plan::chain_problem& p, chain_goal goal, bool in_order, std::size_t most = 99) {
  by_force f{p, goal, in_order, most};
  f.go(0, 0, 0, 0);
  return f.best;
}

plan::chain_problem random_problem(std::mt19937& random, std::size_t ranks, std::size_t groups, bool tight) {
  const auto up_to = [&](double most) { return most * static_cast<double>(random() % 1000) / 1000; };
  plan::chain_problem p;
  p.layers = static_cast<std::int32_t>(ranks + random() % 4);
  p.layer_bytes = 10;
  p.embedding_bytes = static_cast<double>(random() % 30);
  p.head_bytes = static_cast<double>(random() % 30);
  for (std::size_t r = 0; r < ranks; ++r)
    p.ranks.push_back(
        {{up_to(2), 0.2 + up_to(4), up_to(1), up_to(4)}, tight ? 10 + up_to(60) : 1e9, random() % groups});
  p.groups = groups;
  p.hops.resize(groups * groups);
  for (std::size_t a = 0; a < groups; ++a)
    for (std::size_t b = a; b < groups; ++b) p.hops[a * groups + b] = p.hops[b * groups + a] = up_to(5);
  return p;
}

void check_cut(const plan::chain_problem& p, const plan::chain_cut& cut) {
  std::int32_t next = 0;
  std::vector<bool> used(p.ranks.size());
  for (std::size_t i = 0; i < cut.stages.size(); ++i) {
    const auto& s = cut.stages[i];
    BOOST_REQUIRE(s.first == next);
    BOOST_REQUIRE(s.last > s.first);
    BOOST_REQUIRE(!used[s.rank]);
    BOOST_REQUIRE(p.bytes(s.last - s.first, i == 0, s.last == p.layers) <= p.ranks[s.rank].memory_bytes);
    used[s.rank] = true;
    next = s.last;
  }
  BOOST_REQUIRE(next == p.layers);
}

void compare(const plan::chain_problem& p, const plan::chain_cut& cut, chain_goal goal, double want) {
  BOOST_REQUIRE(cut.found() == (want < infinite));
  if (!cut.found()) return;
  check_cut(p, cut);
  BOOST_REQUIRE_CLOSE(goal == chain_goal::slowest ? cut.slowest : cut.sum, want, 1e-7);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_cut_in_an_order_is_optimal) {
  std::mt19937 random{1};
  int without = 0;
  for (int i = 0; i < 1500; ++i) {
    const auto p = random_problem(random, 1 + random() % 5, 1 + random() % 3, i % 2 == 0);
    std::vector<std::size_t> order(p.ranks.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (const auto goal : {chain_goal::slowest, chain_goal::sum}) {
      const auto want = force(p, goal, true);
      compare(p, plan::cut_in_order(p, order, goal), goal, want);
      without += want == infinite ? 1 : 0;
    }
  }
  BOOST_TEST(without > 50);
}

BOOST_AUTO_TEST_CASE(any_order_of_equal_links_is_optimal) {
  std::mt19937 random{2};
  for (int i = 0; i < 400; ++i) {
    auto p = random_problem(random, 1 + random() % 4, 1, i % 2 == 0);
    for (const auto goal : {chain_goal::slowest, chain_goal::sum})
      compare(p, plan::cut_any_order(p, 0, goal), goal, force(p, goal, false));
    for (std::size_t most = 1; most <= p.ranks.size(); ++most)
      compare(p, plan::cut_any_order(p, static_cast<std::int32_t>(most), chain_goal::slowest),
              chain_goal::slowest, force(p, chain_goal::slowest, false, most));
  }
}

BOOST_AUTO_TEST_CASE(any_order_of_unequal_links_is_optimal_for_few_ranks) {
  std::mt19937 random{3};
  for (int i = 0; i < 150; ++i) {
    const auto p = random_problem(random, 2 + random() % 3, 3, i % 2 == 0);
    for (const auto goal : {chain_goal::slowest, chain_goal::sum})
      compare(p, plan::cut_any_order(p, 0, goal), goal, force(p, goal, false));
  }
}

BOOST_AUTO_TEST_CASE(the_heuristic_for_many_ranks_stays_near_the_best_order) {
  // Seven ranks in three hosts, slow links between them.
  std::mt19937 random{4};
  double worst = 1;
  for (int i = 0; i < 20; ++i) {
    auto p = random_problem(random, 7, 3, false);
    p.layers = 7;
    for (std::size_t g = 0; g < 3; ++g) p.hops[g * 3 + g] = 0.01;
    for (const auto goal : {chain_goal::slowest, chain_goal::sum}) {
      const auto cut = plan::cut_any_order(p, 0, goal);
      check_cut(p, cut);
      const auto want = force(p, goal, false);
      const auto got = goal == chain_goal::slowest ? cut.slowest : cut.sum;
      BOOST_REQUIRE(got >= want * (1 - 1e-9));
      worst = std::max(worst, got / want);
    }
  }
  BOOST_TEST_MESSAGE("at worst " << worst << " times the optimum");
  BOOST_TEST(worst < 1.5);
}

BOOST_AUTO_TEST_CASE(a_slow_rank_is_left_out_and_the_loss_is_known) {
  plan::chain_problem p;
  p.layers = 8;
  for (int r = 0; r < 4; ++r) p.ranks.push_back({{0.5, r == 1 ? 10.0 : 1.0, 0, 0}, 1e9, 0});
  const auto cut = plan::cut_any_order(p, 0, chain_goal::slowest);
  BOOST_REQUIRE(cut.stages.size() == 3U);
  for (const auto& s : cut.stages) BOOST_TEST(s.rank != 1U);
  BOOST_TEST(cut.slowest == 3.5);
  BOOST_TEST(plan::slowest_with(p, 0, 1) == 10.5);
  BOOST_TEST(plan::slowest_with(p, 0, 2) == 3.5);
  // One layer is what a rank of half the speed takes.
  p.layers = 7;
  p.ranks[1].time.layer = 2.0;
  BOOST_TEST(plan::cut_any_order(p, 0, chain_goal::slowest).stages.size() == 4U);
}

BOOST_AUTO_TEST_CASE(the_head_goes_where_it_costs_least) {
  plan::chain_problem p;
  p.layers = 6;
  for (int r = 0; r < 3; ++r) p.ranks.push_back({{0, 1, 0, r == 1 ? 0.5 : 4.0}, 1e9, 0});
  const auto cut = plan::cut_any_order(p, 0, chain_goal::slowest);
  BOOST_REQUIRE(cut.stages.size() == 3U);
  BOOST_TEST(cut.stages.back().rank == 1U);
  BOOST_TEST(cut.slowest == 2.5);
}
