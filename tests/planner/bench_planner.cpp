// How long plans take: 200 layers over 64 unequal ranks, and 10,000 ranks.
//   build/tests/bench_planner
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <random>

#include "planner/cluster_plan.hpp"

namespace plan = fastserve::planner;

namespace {

using clock_type = std::chrono::steady_clock;

template <class Work>
double milliseconds(Work work) {
  std::vector<double> times;
  for (int i = 0; i < 3; ++i) {
    const auto begin = clock_type::now();
    work();
    times.push_back(std::chrono::duration<double, std::milli>(clock_type::now() - begin).count());
  }
  std::sort(times.begin(), times.end());
  return times[1];
}

plan::chain_problem chain_of(std::size_t ranks, std::size_t groups) {
  std::mt19937 random{1};
  const auto between = [&](double low, double high) {
    return low + (high - low) * static_cast<double>(random() % 1000) / 1000;
  };
  plan::chain_problem p;
  p.layers = 200;
  p.layer_bytes = 1;
  for (std::size_t r = 0; r < ranks; ++r)
    p.ranks.push_back({{between(0, 1), between(1, 8), 0.1, between(1, 8)}, between(5, 100), r % groups});
  p.groups = groups;
  for (std::size_t i = 0; i < groups * groups; ++i) p.hops.push_back(0);
  p.hops.assign(groups * groups, 0);
  for (std::size_t a = 0; a < groups; ++a)
    for (std::size_t b = 0; b < groups; ++b) p.hops[a * groups + b] = a == b ? 0.01 : between(0.1, 2);
  return p;
}

plan::model_work model_of(std::int32_t layers) {
  plan::model_work m;
  m.layers = layers;
  const double parameters = 8e8;
  m.layer.products.push_back({parameters, 2 * parameters, plan::arithmetic::bf16});
  m.layer.attention_ops = 4 * 8192;
  m.layer.kv_bytes = 4096;
  m.head = {1e9, 2e9, plan::arithmetic::bf16};
  m.hidden = 8192;
  m.vocab = 128000;
  m.layer_bytes = 2 * parameters;
  m.embedding_bytes = m.head_bytes = 2e9;
  return m;
}

plan::cluster cluster_of(int ranks, bool all_differ) {
  std::mt19937 random{2};
  plan::cluster c;
  for (int i = 0; i < ranks; ++i) {
    plan::rank_profile r;
    const auto speed = all_differ ? 0.5 + static_cast<double>(random() % 1000) / 1000 : 1 + i % 4;
    r.rank = i;
    r.group = i * 4 / ranks;
    r.ops_per_s.fill(2e12 * speed);
    r.bytes_per_s = 2e11 * speed;
    r.memory_bytes = 1e11;
    r.step_s = 1e-4;
    c.ranks.push_back(r);
  }
  c.groups = 4;
  c.links.assign(16, {2e-5, 1e9});
  for (std::size_t i = 0; i < 4; ++i) c.links[i * 5] = {2e-6, 2e10};
  return c;
}

}  // namespace

int main() {
  for (const auto goal : {plan::chain_goal::slowest, plan::chain_goal::sum})
    for (const std::size_t groups : {std::size_t{1}, std::size_t{8}}) {
      const auto p = chain_of(64, groups);
      std::vector<std::size_t> order(64);
      std::iota(order.begin(), order.end(), std::size_t{0});
      const auto* name = goal == plan::chain_goal::slowest ? "slowest stage" : "sum";
      std::printf("200 layers, 64 ranks in %zu group(s), %-13s  in order %8.2f ms   any order %8.2f ms\n",
                  groups, name, milliseconds([&] { plan::cut_in_order(p, order, goal); }),
                  milliseconds([&] { plan::cut_any_order(p, 0, goal); }));
    }
  for (const bool all_differ : {false, true})
    for (const int ranks : {64, 1000, 10000}) {
      const auto c = cluster_of(ranks, all_differ);
      plan::cluster_plan made;
      const auto begin = clock_type::now();
      made = plan::make_plan(model_of(200), c, {});
      const auto took = std::chrono::duration<double>(clock_type::now() - begin).count();
      std::printf("whole plan, 200 layers, %5d ranks, %-13s  %6.2f s: %zu pipelines%s%s\n", ranks,
                  all_differ ? "all unequal" : "four kinds", took, made.pipelines.size(),
                  made.error.empty() ? "" : ", ", made.error.c_str());
    }
  return 0;
}
