#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <map>
#include <random>
#include <vector>

#include "../support/sanitized.hpp"
#include "scheduler/simulation.hpp"

namespace sched = fastserve::scheduler;
using sched::request_id;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

namespace {

sched::limits limits_of(const std::string& policy, std::int32_t stages = 1) {
  sched::limits l;
  l.stages = stages;
  l.max_batch = 8;
  l.token_budget = 256;
  l.kv_blocks = 4096;
  l.max_context = 1024;
  l.policy.name = policy;
  return l;
}

struct job {
  double at_ms;
  int prompt;
  int output;
};

struct end {
  sched::time first{}, last{};
  int tokens = 0;
  int ends = 0;
};

class recorder final : public sched::simulation_sink {
 public:
  std::map<std::uint64_t, end> ends;
  std::vector<std::uint64_t> order;
  int refused = 0;

  void on_token(request_id id, sched::time at) override {
    auto& e = ends[static_cast<std::uint64_t>(id)];
    if (e.tokens++ == 0) e.first = at;
    BOOST_REQUIRE(at >= e.last);
    e.last = at;
  }
  void on_done(const sched::progress& p) override {
    auto& e = ends[static_cast<std::uint64_t>(p.id)];
    ++e.ends;
    BOOST_TEST(p.completion_tokens == e.tokens);
    order.push_back(static_cast<std::uint64_t>(p.id));
  }
  void on_refused(request_id, const std::string&) override { ++refused; }
};

sched::simulation_result run(const sched::limits& l, const sched::simulated_cluster& c,
                             const std::vector<job>& jobs, recorder& out) {
  std::size_t i = 0;
  return sched::simulate(
      l, c,
      [&]() -> std::optional<sched::arrival> {
        if (i == jobs.size()) return std::nullopt;
        const auto& j = jobs[i++];
        sched::arrival a{nanoseconds{static_cast<std::int64_t>(j.at_ms * 1e6)}, {}};
        a.what.id = request_id{i};
        for (int t = 0; t < j.prompt; ++t) a.what.prompt.push_back(static_cast<std::int32_t>(i * 4096) + t);
        a.what.max_tokens = j.output;
        return a;
      },
      out);
}

// 1 ms a step, 0.1 ms a row; powers of ten keep sums exact.
sched::simulated_cluster plain_cluster() { return {1, {1e6, 1e5, 0, 0}, sched::time{}}; }

std::vector<job> random_jobs(int count, double mean_gap_ms, unsigned seed) {
  std::mt19937 random{seed};
  std::exponential_distribution<double> gap{1 / mean_gap_ms};
  std::vector<job> out;
  double at = 0;
  for (int i = 0; i < count; ++i) {
    at += gap(random);
    out.push_back({at, 1 + static_cast<int>(random() % 200), 1 + static_cast<int>(random() % 100)});
  }
  return out;
}

const std::vector<std::string> policies = sched::policy_names();

}  // namespace

BOOST_AUTO_TEST_SUITE(simulation)

BOOST_AUTO_TEST_CASE(a_lone_request_takes_what_the_costs_say) {
  recorder r;
  const auto result = run(limits_of("fcfs"), plain_cluster(), {{5, 100, 10}}, r);
  // Prefill: 1 + 100 * 0.1 = 11 ms. Then nine steps of one row: 1.1 ms each.
  BOOST_TEST((r.ends[1].first - milliseconds{5}).count() == 11'000'000);
  BOOST_TEST((r.ends[1].last - r.ends[1].first).count() == 9 * 1'100'000);
  BOOST_TEST(result.totals.steps == 10U);
  BOOST_TEST(result.totals.prompt_tokens == 100U);
  BOOST_TEST(result.totals.completion_tokens == 10U);
}

BOOST_AUTO_TEST_CASE(every_term_of_the_costs_counts) {
  recorder r;
  sched::simulated_cluster c{1, {1000, 10, 7, 3}, nanoseconds{50}};
  run(limits_of("fcfs", 2), c, {{0, 4, 1}}, r);
  // Four rows attend to 1 + 2 + 3 + 4 positions; three hops of 50; one draw, on the last stage.
  BOOST_TEST(r.ends[1].first.count() == 2 * (1000 + 4 * 10 + 10 * 3) + 7 + 3 * 50);
}

BOOST_AUTO_TEST_CASE(a_pipeline_overlaps_steps) {
  auto l = limits_of("fcfs", 4);
  recorder r;
  // Four requests that decode at once: each stage holds one of them.
  const auto result =
      run(l, {1, {1e6, 0, 0, 0}, sched::time{}}, {{0, 1, 1000}, {0, 1, 1000}, {0, 1, 1000}, {0, 1, 1000}}, r);
  // A token takes four stages of 1 ms whether or not others are in flight.
  BOOST_TEST(result.end.count() / 1e6 == 4000, boost::test_tools::tolerance(0.01));
  BOOST_TEST(result.busy > 0.95);
}

BOOST_AUTO_TEST_CASE(every_request_ends_once_and_work_is_conserved) {
  for (const auto& policy : policies)
    for (const int stages : {1, 3}) {
      BOOST_TEST_CONTEXT(policy << ", " << stages << " stages") {
        auto l = limits_of(policy, stages);
        l.kv_blocks = 100;  // few: preemption
        const auto jobs = random_jobs(500, 20, 3);
        recorder r;
        const auto result = run(l, plain_cluster(), jobs, r);
        BOOST_TEST(r.refused == 0);
        BOOST_REQUIRE(r.ends.size() == jobs.size());
        std::uint64_t prompts = 0, answers = 0;
        for (std::size_t i = 0; i < jobs.size(); ++i) {
          const auto& e = r.ends[i + 1];
          BOOST_TEST(e.ends == 1);
          BOOST_TEST(e.tokens == jobs[i].output);
          prompts += static_cast<std::uint64_t>(jobs[i].prompt);
          answers += static_cast<std::uint64_t>(jobs[i].output);
        }
        BOOST_TEST(result.totals.completion_tokens == answers);
        BOOST_TEST(result.totals.prompt_tokens >= prompts);  // more: computed again after preemption
        if (result.totals.preemptions == 0) BOOST_TEST(result.totals.prompt_tokens == prompts);
        BOOST_TEST(result.totals.kv_blocks_free == result.totals.kv_blocks);
        BOOST_TEST(result.busy <= 1.0);
      }
    }
}

BOOST_AUTO_TEST_CASE(at_low_load_all_policies_are_the_cost_model) {
  std::vector<job> jobs;
  for (int i = 0; i < 50; ++i) jobs.push_back({i * 1000.0, 10 + i, 20});
  for (const auto& policy : policies) {
    recorder r;
    run(limits_of(policy), plain_cluster(), jobs, r);
    for (int i = 0; i < 50; ++i) {
      const auto& e = r.ends[static_cast<std::uint64_t>(i) + 1];
      BOOST_TEST((e.last - seconds{i}).count() == 1'000'000 + (10 + i) * 100'000 + 19 * 1'100'000);
    }
  }
}

// One slot; a long request comes first, then two shorter ones while it runs.
BOOST_AUTO_TEST_CASE(order_of_ends_on_a_toy) {
  const std::vector<job> jobs{{0, 10, 100}, {1, 10, 50}, {2, 10, 5}};
  const auto order_of = [&](const std::string& policy) {
    auto l = limits_of(policy);
    l.max_batch = 1;
    recorder r;
    run(l, plain_cluster(), jobs, r);
    return r.order;
  };
  BOOST_TEST((order_of("fcfs") == std::vector<std::uint64_t>{1, 2, 3}));
  BOOST_TEST((order_of("hrrn") == std::vector<std::uint64_t>{1, 2, 3}));
  BOOST_TEST((order_of("srpt") == std::vector<std::uint64_t>{3, 2, 1}));
  // Does not know the lengths, and yet the short one is not held up.
  BOOST_TEST(order_of("sj-mlfq").front() == 3U);
}

BOOST_AUTO_TEST_CASE(srpt_beats_fcfs_on_mean_latency_under_load) {
  const auto jobs = random_jobs(1000, 12, 5);
  const auto mean = [&](const std::string& policy) {
    recorder r;
    run(limits_of(policy), plain_cluster(), jobs, r);
    double sum = 0;
    for (std::size_t i = 0; i < jobs.size(); ++i)
      sum += static_cast<double>(r.ends[i + 1].last.count()) / 1e6 - jobs[i].at_ms;
    return sum / static_cast<double>(jobs.size());
  };
  const auto fcfs = mean("fcfs");
  BOOST_TEST_MESSAGE("fcfs " << fcfs << " ms, srpt " << mean("srpt") << ", sj-mlfq " << mean("sj-mlfq"));
  BOOST_TEST(mean("srpt") < fcfs);
}

BOOST_AUTO_TEST_CASE(the_same_twice) {
  for (const auto& policy : policies) {
    recorder a, b;
    const auto jobs = random_jobs(300, 10, 9);
    const auto first = run(limits_of(policy, 2), plain_cluster(), jobs, a);
    const auto second = run(limits_of(policy, 2), plain_cluster(), jobs, b);
    BOOST_TEST(first.end.count() == second.end.count());
    BOOST_TEST((a.order == b.order));
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_run_is_refused) {
  recorder r;
  run(limits_of("fcfs"), plain_cluster(), {{0, 1024, 1}, {0, 10, 1}}, r);
  BOOST_TEST(r.refused == 1);
  BOOST_TEST(r.order.size() == 1U);
}

BOOST_AUTO_TEST_CASE(starved_requests_are_promoted_in_order) {
  // A stream of short prompts fills the only slot; the long prompt starts far down and comes up after 50 ms.
  auto l = limits_of("sj-mlfq");
  l.max_batch = 1;
  l.policy.starvation = milliseconds{50};
  std::vector<job> jobs;
  for (int i = 0; i < 400; ++i) {
    if (i == 20) jobs.push_back({i * 2.0 - 0.5, 200, 2});
    jobs.push_back({i * 2.0, 1, 2});
  }
  recorder r;
  run(l, plain_cluster(), jobs, r);
  const auto first_ms = static_cast<double>(r.ends[21].first.count()) / 1e6;
  BOOST_TEST(first_ms > 39.5);
  BOOST_TEST(first_ms < 39.5 + 50 + 60);  // the queue of short ones when it is promoted, and its prefill
}

// Twice what one slot in sixteen can serve comes for a while: nearly all starve, and few may be promoted for
// it.
BOOST_AUTO_TEST_CASE(queues_keep_their_meaning_when_all_starve) {
  const auto normalized = [](const std::string& policy, milliseconds starvation) {
    auto jobs = random_jobs(400, 10, 3);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      jobs[i].prompt = 8;
      jobs[i].output = 1 + static_cast<int>(i * 37 % 400);
    }
    auto l = limits_of(policy);
    l.max_batch = 16;
    l.policy.starvation = starvation;
    recorder r;
    run(l, plain_cluster(), jobs, r);
    double sum = 0;
    for (std::size_t i = 0; i < jobs.size(); ++i)
      sum += (static_cast<double>(r.ends[i + 1].last.count()) / 1e6 - jobs[i].at_ms) / jobs[i].output;
    return sum / static_cast<double>(jobs.size());
  };
  const auto never = normalized("sj-mlfq", seconds{1000});
  const auto soon = normalized("sj-mlfq", milliseconds{30});
  BOOST_TEST_MESSAGE("never " << never << ", soon " << soon << " ms a token");
  BOOST_TEST(soon < 1.04 * never);
  BOOST_TEST(soon < 0.9 * normalized("fcfs", milliseconds{30}));
}

// Those that have memory are to be had apart from the rest, and in the same order.
BOOST_AUTO_TEST_CASE(the_resident_ones_come_in_the_order_of_all) {
  const sched::cost_model costs;
  for (const auto& name : policies) {
    const auto policy = sched::make_policy({name, seconds{1000}}, costs, 16);
    std::vector<sched::policy_item> items(200);
    std::mt19937 random{5};
    for (std::size_t i = 0; i < items.size(); ++i) {
      auto& item = items[i];
      item.id = request_id{i};
      item.priority = static_cast<std::int32_t>(random() % 2);
      item.prefill_tokens = item.total_tokens = static_cast<std::int32_t>(1 + random() % 500);
      item.remaining_tokens = static_cast<std::int32_t>(1 + random() % 100);
      item.resident = random() % 3 == 0;
      item.started = item.resident || random() % 2 == 0;
      policy->push(item, milliseconds{i});
    }
    std::vector<const sched::policy_item*> all, resident;
    while (auto* item = policy->pop(seconds{1}))
      if (all.push_back(item); item->resident) resident.push_back(item);
    BOOST_TEST(all.size() == items.size());
    for (auto& item : items) policy->unpop(item);
    for (const auto* want : resident) BOOST_REQUIRE(policy->pop_resident() == want);
    BOOST_TEST(policy->pop_resident() == nullptr);
    BOOST_TEST(policy->size() == all.size() - resident.size());
    for (const auto* want : all)
      if (!want->resident) BOOST_REQUIRE(policy->pop(seconds{1}) == want);
    BOOST_TEST(policy->size() == 0U);
  }
}

// Long prompts arrive behind short ones; those whose prefix is in memory are short ones too.
BOOST_AUTO_TEST_CASE(a_cached_prompt_joins_the_queue_of_what_is_left_of_it) {
  sched::cost_model costs;
  for (int i = 0; i < 8; ++i) costs.observe({1 + i, 1, 0}, nanoseconds{1'000'000 + (1 + i) * 100'000});
  const auto policy = sched::make_policy({"sj-mlfq", milliseconds{300}}, costs, 16);
  sched::policy_item cold, warm;
  cold.id = request_id{1};
  warm.id = request_id{2};
  cold.prefill_tokens = 512;
  warm.prefill_tokens = 16;
  warm.cached_tokens = 496;
  policy->push(cold, sched::time{});
  policy->push(warm, sched::time{});
  BOOST_TEST(cold.level > warm.level + 2);
  BOOST_TEST(policy->pop(sched::time{}) == &warm);
}

// Two requests that outgrow the pool: the longer one is copied out for the other, and back.
sched::simulation_result swap_once(std::int32_t slots, sched::time block, recorder& r) {
  auto l = limits_of("srpt");
  l.kv_blocks = 12;
  l.swap = {slots, 0, block, {}};
  return run(l, plain_cluster(), {{0, 100, 80}, {0, 60, 40}}, r);
}

BOOST_AUTO_TEST_CASE(copies_take_their_time) {
  recorder dropped, at_once, slow;
  const auto recomputed = swap_once(0, {}, dropped);
  const auto free = swap_once(64, {}, at_once);
  const auto copied = swap_once(64, nanoseconds{100'000}, slow);
  BOOST_TEST(recomputed.totals.preemptions > 0U);
  BOOST_TEST(free.totals.blocks_out > 0U);
  BOOST_TEST(free.totals.blocks_in > 0U);
  BOOST_TEST(free.copying == 0);
  BOOST_TEST(copied.totals.blocks_out == free.totals.blocks_out);
  BOOST_TEST(copied.totals.blocks_in == free.totals.blocks_in);
  const auto moved = static_cast<std::int64_t>(copied.totals.blocks_out + copied.totals.blocks_in);
  BOOST_TEST(copied.copying * static_cast<double>(copied.end.count()) == static_cast<double>(moved) * 1e5,
             boost::test_tools::tolerance(1e-6));
  // The long one waits for its copies, but less than it would compute.
  BOOST_TEST(slow.ends[1].last.count() > at_once.ends[1].last.count());
  BOOST_TEST(slow.ends[1].last.count() <= at_once.ends[1].last.count() + moved * 100'000);
  BOOST_TEST(slow.ends[1].last.count() < dropped.ends[1].last.count());
  // The other one takes blocks that are being copied out.
  BOOST_TEST(slow.ends[2].last.count() > at_once.ends[2].last.count());
}

BOOST_AUTO_TEST_CASE(replicas_share_the_requests) {
  // Four at once, each as long as alone; the fifth joins the replica that is free first.
  auto c = plain_cluster();
  c.replicas = 4;
  auto l = limits_of("fcfs");
  l.max_batch = 1;
  recorder r;
  const auto result = run(l, c, {{0, 10, 10}, {0, 10, 10}, {0, 10, 5}, {0, 10, 10}, {9, 10, 1}}, r);
  for (const std::uint64_t id : {1, 2, 4}) BOOST_TEST(r.ends[id].last.count() == 2'000'000 + 9 * 1'100'000);
  BOOST_TEST(r.ends[3].last.count() == 2'000'000 + 4 * 1'100'000);
  BOOST_TEST(r.ends[5].last.count() == 9'000'000 + 2'000'000);
  BOOST_TEST(result.totals.finished == 5U);
  BOOST_TEST(result.totals.kv_blocks == 4 * l.kv_blocks);
}

BOOST_AUTO_TEST_CASE(many_replicas_carry_as_many_times_the_load) {
  auto c = plain_cluster();
  c.replicas = 50;
  recorder r;
  const auto jobs = random_jobs(5000, 12.0 / 50, 5);
  const auto result = run(limits_of("sj-mlfq", 2), c, jobs, r);
  BOOST_TEST(r.order.size() == jobs.size());
  BOOST_TEST(result.totals.finished == jobs.size());
  BOOST_TEST(result.busy <= 1.0);
  BOOST_TEST(result.busy > 0.2);
}

// Two streams of requests, each through a pipeline of its own, and both together through two: as much is
// served, and no later, for the router sends a request to the pipeline that is sooner done.
BOOST_AUTO_TEST_CASE(two_replicas_at_twice_the_rate_are_as_quick_as_one) {
  const auto serve = [](const std::string& policy, std::int32_t replicas, const std::vector<job>& jobs) {
    auto c = plain_cluster();
    c.replicas = replicas;
    recorder r;
    const auto result = run(limits_of(policy), c, jobs, r);
    BOOST_REQUIRE(r.order.size() == jobs.size());
    double latency_ms = 0;
    for (std::size_t i = 0; i < jobs.size(); ++i)
      latency_ms += static_cast<double>(r.ends[i + 1].last.count()) / 1e6 - jobs[i].at_ms;
    return std::pair{latency_ms / static_cast<double>(jobs.size()),
                     static_cast<double>(result.end.count()) / 1e9};
  };
  for (const auto& policy : {"fcfs", "sj-mlfq"})
    for (const double gap_ms : {40.0, 24.0, 14.0}) {  // a little over half, most, and more than can be served
      if (fastserve::test::sanitized && gap_ms != 24.0) continue;
      const auto a = random_jobs(2000, gap_ms, 11);
      const auto b = random_jobs(2000, gap_ms, 12);
      auto both = a;
      both.insert(both.end(), b.begin(), b.end());
      std::stable_sort(both.begin(), both.end(),
                       [](const job& x, const job& y) { return x.at_ms < y.at_ms; });
      const auto [a_ms, a_s] = serve(policy, 1, a);
      const auto [b_ms, b_s] = serve(policy, 1, b);
      const auto [both_ms, both_s] = serve(policy, 2, both);
      BOOST_TEST_MESSAGE(policy << ", one each " << gap_ms << " ms: " << a_ms << " and " << b_ms
                                << " ms alone in " << a_s << " and " << b_s << " s; together " << both_ms
                                << " ms in " << both_s << " s");
      const auto alone_ms = (a_ms + b_ms) / 2;
      BOOST_TEST(both_ms < 1.01 * alone_ms);
      BOOST_TEST(both_ms > 0.6 * alone_ms);
      BOOST_TEST(both_s < 1.005 * std::max(a_s, b_s));
    }
}

// Conversations, each with a long beginning of its own: the engine's router sends each back to where that is.
BOOST_AUTO_TEST_CASE(replicas_are_routed_to_as_in_the_engine) {
  const auto hits = [](std::int32_t replicas) {
    auto c = plain_cluster();
    c.replicas = replicas;
    recorder r;
    std::uint64_t i = 0;
    const auto result = sched::simulate(
        limits_of("fcfs"), c,
        [&]() -> std::optional<sched::arrival> {
          if (i == 300) return std::nullopt;
          sched::arrival a{milliseconds{i * 20}, {}};
          a.what.id = request_id{++i};
          const auto talk = static_cast<std::int32_t>(i % 7);
          for (std::int32_t t = 0; t < 160; ++t) a.what.prompt.push_back(1000 * talk + t);
          for (std::int32_t t = 0; t < 16; ++t) a.what.prompt.push_back(static_cast<std::int32_t>(i) + 10000);
          a.what.max_tokens = 10;
          return a;
        },
        r);
    BOOST_TEST(r.order.size() == 300U);
    return result.totals.prefix_hit_tokens;
  };
  BOOST_TEST(hits(1) == 293U * 160);
  BOOST_TEST(hits(3) > 270U * 160);
}

BOOST_AUTO_TEST_CASE(the_fit_finds_the_costs_again) {
  const sched::step_costs truth{2e6, 3e4, 1.5e5, 20};
  sched::cost_model fit;
  std::mt19937 random{1};
  for (int i = 0; i < 500; ++i) {
    const sched::step_size size{1 + static_cast<int>(random() % 100), static_cast<int>(random() % 20),
                                static_cast<int>(random() % 5000)};
    const double ns = truth.fixed_ns + truth.row_ns * static_cast<double>(size.rows) +
                      truth.draw_ns * static_cast<double>(size.draws) +
                      truth.context_ns * static_cast<double>(size.context);
    fit.observe(size, nanoseconds{static_cast<std::int64_t>(ns)});
  }
  const auto found = fit.solve();
  const auto near = boost::test_tools::tolerance(1e-3);
  BOOST_TEST(found.fixed_ns == truth.fixed_ns, near);
  BOOST_TEST(found.row_ns == truth.row_ns, near);
  BOOST_TEST(found.draw_ns == truth.draw_ns, near);
  BOOST_TEST(found.context_ns == truth.context_ns, near);
}

BOOST_AUTO_TEST_CASE(a_fit_of_equal_steps_still_predicts_them) {
  sched::cost_model fit;
  for (int i = 0; i < 10; ++i) fit.observe({4, 4, 100}, milliseconds{3});
  const auto c = fit.solve();
  BOOST_TEST(c.fixed_ns + 4 * c.row_ns + 4 * c.draw_ns + 100 * c.context_ns == 3e6,
             boost::test_tools::tolerance(1e-6));
  BOOST_TEST(sched::cost_model{}.solve().fixed_ns == 0);
}

BOOST_AUTO_TEST_SUITE_END()
