#include <deque>
#include <numeric>

#include "follower.hpp"

BOOST_AUTO_TEST_SUITE(scheduler)

BOOST_AUTO_TEST_CASE(prefills_then_decodes_one_token_a_step) {
  sched::scheduler s{small()};
  BOOST_TEST(s.add(ask(1, 5, 3), milliseconds{1}).empty());
  auto first = s.schedule(milliseconds{2});
  BOOST_REQUIRE(first);
  BOOST_TEST(first->rows == 5);
  BOOST_TEST(first->entries[0].samples);
  BOOST_TEST(!s.schedule(milliseconds{2}));  // one stage: one micro-batch in flight
  auto p = s.complete(first->step, draw(*first, 7), milliseconds{3});
  BOOST_REQUIRE(p.size() == 1);
  BOOST_TEST(p[0].token == 7);
  BOOST_TEST(!p[0].finished);

  auto second = s.schedule(milliseconds{4});
  BOOST_REQUIRE(second);
  BOOST_TEST(second->rows == 1);
  BOOST_TEST(second->entries[0].first_position == 5);
  BOOST_TEST(second->entries[0].tokens[0] == 7);
  s.complete(second->step, draw(*second), milliseconds{5});
  auto third = s.schedule(milliseconds{6});
  p = s.complete(third->step, draw(*third), milliseconds{7});
  BOOST_REQUIRE(p[0].finished);
  BOOST_TEST((*p[0].finished == sched::finish_reason::length));
  BOOST_TEST(p[0].completion_tokens == 3);
  BOOST_TEST((p[0].times.arrived == milliseconds{1} && p[0].times.admitted == milliseconds{2} &&
              p[0].times.first_token == milliseconds{3} && p[0].times.finished == milliseconds{7}));
  BOOST_TEST(s.idle());
  s.check_integrity();
}

BOOST_AUTO_TEST_CASE(stops_at_a_stop_token) {
  sched::scheduler s{small()};
  auto r = ask(1, 2, 100);
  r.stop_ids = {9};
  s.add(r, {});
  auto b = s.schedule({});
  auto p = s.complete(b->step, draw(*b, 9), {});
  BOOST_REQUIRE(p[0].finished);
  BOOST_TEST((*p[0].finished == sched::finish_reason::stop));
  BOOST_TEST(p[0].token == 9);
}

BOOST_AUTO_TEST_CASE(refuses_what_can_never_run) {
  auto l = small();
  l.kv_blocks = 4;
  l.max_waiting = 1;
  sched::scheduler s{l};
  BOOST_TEST(s.add(ask(1, 0, 1), {}).find("empty") != std::string::npos);
  BOOST_TEST(s.add(ask(1, 256, 1), {}).find("context holds 256") != std::string::npos);
  BOOST_TEST(s.add(ask(1, 64, 1), {}).find("KV cache holds 64") != std::string::npos);
  BOOST_TEST(s.add(ask(1, 60, 1000), {}).empty());
  BOOST_TEST(s.add(ask(2, 3, 1), {}).find("queue is full") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(cuts_max_tokens_to_the_context) {
  auto l = small();
  l.max_context = 10;
  sched::scheduler s{l};
  s.add(ask(1, 8, 1000), {});
  int tokens = 0;
  while (auto b = s.schedule({})) tokens += static_cast<int>(s.complete(b->step, draw(*b), {}).size());
  BOOST_TEST(tokens == 2);
}

BOOST_AUTO_TEST_CASE(chunks_of_one_prompt_follow_each_other_through_the_stages) {
  sched::scheduler s{small(2)};
  s.add(ask(1, 128, 1), {});
  auto a = s.schedule({});
  auto b = s.schedule({});
  BOOST_REQUIRE((a && b));
  BOOST_TEST(a->rows == 64);
  BOOST_TEST(!a->entries[0].samples);
  BOOST_TEST(b->entries[0].first_position == 64);
  BOOST_TEST(b->entries[0].samples);
  BOOST_TEST(s.complete(a->step, {}, {}).empty());
  BOOST_TEST(s.complete(b->step, draw(*b), {}).size() == 1);
}

// When the last of equal stages ends, if `rows` go through them in chunks of next(rows left or under way).
template <class Next>
double pipelined(const sched::step_costs& c, std::int64_t rows, int stages, Next next) {
  std::vector<double> free(static_cast<std::size_t>(stages));
  std::deque<std::int64_t> under_way;  // a chunk is formed as soon as one leaves the last stage
  while (rows > 0) {
    if (under_way.size() == free.size()) under_way.pop_front();
    const auto all = std::accumulate(under_way.begin(), under_way.end(), rows);
    const auto chunk = std::min(next(all), rows);
    under_way.push_back(chunk);
    rows -= chunk;
    double ready = 0;
    for (auto& stage : free) {
      ready = std::max(ready, stage) + c.fixed_ns + c.row_ns * static_cast<double>(chunk);
      stage = ready;
    }
  }
  return free.back();
}

BOOST_AUTO_TEST_CASE(chunks_bring_a_prompt_through_the_stages_about_as_soon_as_can_be) {
  for (const double fixed : {1.0, 15.0, 60.0, 300.0}) {
    for (const int stages : {1, 2, 3, 8}) {
      for (const std::int64_t rows : {1, 100, 512, 4000}) {
        const sched::step_costs c{fixed, 1, 0, 0};
        const auto ours = pipelined(c, rows, stages, [&](auto all) { return c.chunk(all, stages, 8); });
        auto best = ours;
        for (std::int64_t equal = 8; equal <= rows + 7; ++equal)
          best = std::min(best, pipelined(c, rows, stages, [&](auto) { return equal; }));
        BOOST_TEST(ours <= 1.1 * best, fixed << " fixed, " << stages << " stages, " << rows
                                             << " rows: " << ours << " for " << best);
      }
    }
  }
}

// A pipeline of equal stages that cost what `c` says, serving one prompt to its last token. How many chunks
// the prompt was cut into.
int serve_alone(sched::scheduler& s, const sched::step_costs& c, std::uint64_t id, std::int32_t prompt,
                std::int32_t answer, sched::time& now) {
  struct step {
    sched::micro_batch what;
    sched::time ends;
  };
  std::deque<step> under_way;
  std::vector<sched::time> free(static_cast<std::size_t>(s.bounds().stages), now);
  int chunks = 0;
  BOOST_TEST(s.add(ask(id, prompt, answer), now).empty());
  while (!s.idle()) {
    while (auto b = s.schedule(now)) {
      chunks += b->rows > 1 ? 1 : 0;
      std::int64_t context = 0;
      for (const auto& e : b->entries)
        for (std::size_t r = 0; r < e.tokens.size(); ++r)
          context += e.first_position + static_cast<std::int64_t>(r) + 1;
      auto ends = now;
      for (auto& stage : free) {
        stage = std::max(stage, ends) + c.compute({b->rows, 0, context});
        ends = stage;
      }
      under_way.push_back({std::move(*b), ends});
    }
    BOOST_REQUIRE(!under_way.empty());
    auto done = std::move(under_way.front());
    under_way.pop_front();
    now = done.ends;
    s.complete(done.what.step, draw(done.what), now);
  }
  return chunks;
}

BOOST_AUTO_TEST_CASE(prompts_that_come_alone_are_cut_by_what_they_cost) {
  for (const int stages : {2, 4}) {
    for (const std::int32_t answer : {1, 8}) {
      auto l = small(stages);
      l.max_context = 2048;
      l.kv_blocks = 1024;
      l.token_budget = 1024;
      l.prefix_caching = false;
      sched::scheduler s{l};
      sched::time now{};
      const sched::step_costs truth{50e6, 2e6, 0, 1e3};
      // Lengths that no chunk of another repeats: what a fixed cost is can be told.
      for (std::uint64_t i = 1; i < 20; ++i)
        serve_alone(s, truth, i, static_cast<std::int32_t>(100 + 37 * i), answer, now);
      const auto best = 640 / truth.chunk(640, stages, 64);
      const auto chunks = serve_alone(s, truth, 100, 640, answer, now);
      BOOST_TEST(chunks >= best, stages << " stages, answers of " << answer << ": " << chunks << " chunks");
      BOOST_TEST(chunks <= best + 2);
    }
  }
}

BOOST_AUTO_TEST_CASE(costs_of_one_kind_alone_still_give_chunks) {
  BOOST_TEST((sched::step_costs{5, 0, 0, 0}.chunk(640, 3, 64)) == 640);
  BOOST_TEST((sched::step_costs{0, 5, 0, 0}.chunk(640, 3, 64)) == 64);
  BOOST_TEST((sched::step_costs{0, 0, 0, 0}.chunk(640, 3, 64)) == 640);
  BOOST_TEST((sched::step_costs{5, 5, 0, 0}.chunk(640, 1, 64)) == 640);
  BOOST_TEST((sched::step_costs{5, 5, 0, 0}.chunk(10, 3, 64)) == 10);
  BOOST_TEST((sched::step_costs{5, 5, 0, 0}.chunk(0, 3, 64)) == 0);
}

BOOST_AUTO_TEST_CASE(spreads_decodes_evenly_over_the_stages) {
  sched::scheduler s{small(2)};
  for (std::uint64_t i = 1; i <= 6; ++i) s.add(ask(i, 1, 50), {});
  auto a = s.schedule({});
  BOOST_TEST(a->entries.size() == 6);
  s.complete(a->step, draw(*a), {});
  a = s.schedule({});
  auto b = s.schedule({});
  BOOST_REQUIRE((a && b));
  BOOST_TEST(a->entries.size() == 3);
  BOOST_TEST(b->entries.size() == 3);
  std::set<request_id> seen;
  for (const auto* x : {&*a, &*b})
    for (const auto& e : x->entries) seen.insert(e.id);
  BOOST_TEST(seen.size() == 6);
}

BOOST_AUTO_TEST_CASE(decodes_come_before_prefill_under_the_budget) {
  auto l = small();
  l.token_budget = 10;
  sched::scheduler s{l};
  s.add(ask(1, 4, 50), {});
  auto a = s.schedule({});
  s.add(ask(2, 40, 5), {});
  s.complete(a->step, draw(*a), {});
  auto b = s.schedule({});
  BOOST_REQUIRE(b->entries.size() == 2);
  BOOST_TEST((b->entries[0].id == request_id{1}));
  BOOST_TEST(b->entries[1].tokens.size() == 9);
  BOOST_TEST(b->rows == 10);
}

BOOST_AUTO_TEST_CASE(cancels_waiting_running_and_flying_requests) {
  sched::scheduler s{small()};
  s.add(ask(1, 3, 50), {});
  s.add(ask(2, 3, 50), {});
  const auto cancelled = sched::finish_reason::cancelled;
  auto p = s.finish(request_id{2}, cancelled, {});
  BOOST_REQUIRE(p);
  BOOST_TEST((*p->finished == cancelled));
  auto b = s.schedule({});
  BOOST_TEST(!s.finish(request_id{1}, cancelled, {}));  // in flight
  auto done = s.complete(b->step, draw(*b), {});
  BOOST_REQUIRE(done.size() == 1);
  BOOST_TEST((done[0].finished == cancelled));
  BOOST_TEST(done[0].token == -1);
  BOOST_TEST(!s.finish(request_id{9}, cancelled, {}));
  BOOST_TEST(s.idle());
  BOOST_TEST(s.count().kv_blocks_free == 64);
}

BOOST_AUTO_TEST_CASE(rejects_steps_out_of_order) {
  sched::scheduler s{small(2)};
  s.add(ask(1, 128, 1), {});
  auto a = s.schedule({});
  auto b = s.schedule({});
  BOOST_CHECK_THROW(s.complete(b->step, draw(*b), {}), std::logic_error);
  BOOST_CHECK_THROW(s.complete(a->step, draw(*b), {}), std::logic_error);  // tokens nobody asked for
}

// Random arrivals and cancels under every policy, over 1 to 4 stages, in a memory that holds only some of
// them.
BOOST_AUTO_TEST_CASE(random_operations_keep_every_promise) {
  for (const auto& policy : policies())
    for (std::int32_t stages = 1; stages <= 4; ++stages) {
      BOOST_TEST_CONTEXT(policy << ", " << stages << " stages") {
        auto l = small(stages);
        l.policy.name = policy;
        l.policy.starvation = milliseconds{300};
        l.kv_blocks = 30;
        follower f{l, static_cast<unsigned>(stages)};
        f.run(6'500);
        const auto c = f.under_test().count();
        BOOST_TEST(c.preemptions > 10U);
        BOOST_TEST(c.prefix_hit_tokens > 1000U);
      }
    }
}

// Two requests compute the same prompt at once, so one holds copies of what the other made known; then it
// grows to the size of the whole pool.
BOOST_AUTO_TEST_CASE(copies_of_a_cached_prefix_do_not_stop_a_request) {
  auto l = small();
  l.token_budget = 128;
  l.kv_blocks = 8;
  l.max_context = 1000;
  sched::scheduler s{l};
  auto a = ask(1, 63, 1);
  auto b = ask(2, 63, 65);
  b.prompt = a.prompt;
  s.add(a, {});
  s.add(b, {});
  int steps = 0;
  while (!s.idle()) {
    const auto batch = s.schedule(milliseconds{++steps});
    BOOST_REQUIRE(batch);
    BOOST_REQUIRE_LT(steps, 200);
    s.complete(batch->step, draw(*batch), milliseconds{steps});
    s.check_integrity();
  }
  BOOST_TEST(s.count().completion_tokens == 66U);
}

// The same while the pipeline is lost every fifty operations: no request is lost or told twice, no token is
// skipped, and every row finds the KV of those before it in the new pipeline's blocks.
BOOST_AUTO_TEST_CASE(goes_on_with_another_pipeline) {
  for (const auto& policy : policies()) {
    BOOST_TEST_CONTEXT(policy) {
      auto l = small(3);
      l.policy.name = policy;
      l.policy.starvation = milliseconds{300};
      l.kv_blocks = 30;
      follower f{l, 11};
      f.run(10'000, true);
      BOOST_TEST(f.restarts() > 100);
      BOOST_TEST(f.under_test().count().completion_tokens > 1000U);
    }
  }
}

// Answers that another scheduler began go on behind their tokens, and end where they would have ended.
BOOST_AUTO_TEST_CASE(goes_on_behind_tokens_from_before) {
  for (const auto& policy : sched::policy_names()) {
    auto l = small(2);
    l.policy.name = policy;
    l.kv_blocks = 40;
    sched::scheduler s{l};
    s.add(ask(1, 20, 10), {});
    s.add(ask(2, 5, 4), {});
    for (int i = 0; i < 6; ++i) {
      const auto p = s.give(request_id{1}, 100 + i, milliseconds{1});
      BOOST_TEST(p.token == 100 + i);
      BOOST_TEST(!p.finished.has_value());
      BOOST_TEST(p.completion_tokens == i + 1);
      s.check_integrity();
    }
    for (int i = 0; i < 4; ++i) {
      const auto p = s.give(request_id{2}, 100 + i, milliseconds{1});
      BOOST_TEST((p.finished.has_value() == (i == 3)));
    }
    BOOST_CHECK_THROW(s.give(request_id{2}, 1, milliseconds{1}), std::logic_error);
    std::int32_t first_rows = 0;
    std::optional<sched::progress> last;
    for (int i = 2; !s.idle(); ++i) {
      BOOST_REQUIRE_LT(i, 100);
      const auto batch = s.schedule(milliseconds{i});
      BOOST_REQUIRE(batch);
      if (first_rows == 0) {
        first_rows = batch->rows;
        BOOST_CHECK_THROW(s.give(request_id{1}, 1, milliseconds{i}), std::logic_error);
      }
      for (const auto& p : s.complete(batch->step, draw(*batch), milliseconds{i})) last = p;
      s.check_integrity();
    }
    BOOST_TEST(first_rows == 26);  // the prompt and what it had
    BOOST_REQUIRE(last);
    BOOST_TEST((last->finished == sched::finish_reason::length));
    BOOST_TEST(last->completion_tokens == 10);
  }
}

// A smaller pool ends what it cannot hold, and nothing else.
BOOST_AUTO_TEST_CASE(a_smaller_pipeline_cuts_what_it_cannot_hold) {
  auto l = small();
  l.kv_blocks = 20;
  l.max_context = 300;
  l.token_budget = 256;
  sched::scheduler s{l};
  s.add(ask(1, 20, 100), {});  // grows out of the new pool later
  s.add(ask(2, 150, 20), {});  // is too large already, without a token
  auto batch = s.schedule(milliseconds{1});
  BOOST_REQUIRE(batch);
  const auto lost = s.restart(2, 4, milliseconds{2});
  BOOST_REQUIRE(lost.size() == 1U);
  BOOST_TEST((lost[0].id == request_id{2}));
  BOOST_TEST((lost[0].finished == sched::finish_reason::error));
  std::optional<sched::progress> last;
  for (int i = 3; !s.idle(); ++i) {
    BOOST_REQUIRE_LT(i, 100);
    batch = s.schedule(milliseconds{i});
    BOOST_REQUIRE(batch);
    for (const auto& p : s.complete(batch->step, draw(*batch), milliseconds{i})) last = p;
    s.check_integrity();
  }
  BOOST_REQUIRE(last);
  BOOST_TEST((last->finished == sched::finish_reason::length));
  BOOST_TEST(last->completion_tokens == 64 - 20);
}

BOOST_AUTO_TEST_CASE(a_peek_finds_what_a_match_takes) {
  sched::block_pool pool{8};
  sched::prefix_cache cache{pool};
  const auto prompt = ask(1, 50, 1).prompt;
  std::vector<std::int32_t> blocks;
  pool.allocate(4, blocks);
  cache.insert(9, prompt, 50, blocks, 0);
  for (const std::int32_t most : {0, 15, 16, 47, 48, 50}) {
    std::vector<std::int32_t> found;
    const auto peeked = cache.peek(9, prompt, most);
    BOOST_TEST(peeked == most / 16 * 16);
    BOOST_TEST(cache.match(9, prompt, most, found) == peeked);
    for (const auto b : found) pool.release(b);
  }
  BOOST_TEST(cache.peek(8, prompt, 50) == 0);  // another tenant
}

BOOST_AUTO_TEST_CASE(works_without_the_prefix_cache) {
  auto l = small(2);
  l.prefix_caching = false;
  l.kv_blocks = 30;
  follower f{l, 5};
  f.run(20'000);
  BOOST_TEST(f.under_test().count().prefix_hit_tokens == 0U);
  BOOST_TEST(f.under_test().count().preemptions > 10U);
}

BOOST_AUTO_TEST_SUITE_END()
