#define BOOST_TEST_MODULE scheduler
#include "scheduler/scheduler.hpp"

#include <boost/test/unit_test.hpp>
#include <deque>
#include <map>
#include <random>
#include <set>

namespace sched = fastserve::scheduler;
using sched::request_id;
using std::chrono::milliseconds;

namespace {

sched::limits small(std::int32_t stages = 1) {
  return {.stages = stages,
          .max_batch = 8,
          .token_budget = 64,
          .max_running = 16,
          .kv_blocks = 64,
          .max_context = 256};
}

sched::request ask(std::uint64_t id, std::size_t prompt, std::int32_t max_tokens) {
  sched::request r;
  r.id = request_id{id};
  for (std::size_t i = 0; i < prompt; ++i) r.prompt.push_back(static_cast<std::int32_t>(id * 1000 + i));
  r.max_tokens = max_tokens;
  return r;
}

// Draws a token for every sequence of a batch that wants one.
std::vector<sched::drawn_token> draw(const sched::micro_batch& b, std::int32_t token = 5) {
  std::vector<sched::drawn_token> out;
  for (const auto& e : b.entries)
    if (e.samples) out.push_back({e.id, token});
  return out;
}

}  // namespace

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

// Random arrivals, cancels and pipelines of 1 to 4 stages. A naive follower checks that every sequence's rows
// come once and in order, in its own blocks, and that every request ends once with the tokens it was due.
BOOST_AUTO_TEST_CASE(random_operations_keep_every_promise) {
  for (std::int32_t stages = 1; stages <= 4; ++stages) {
    std::mt19937 random{static_cast<unsigned>(stages)};
    sched::scheduler s{small(stages)};
    struct follower {
      std::vector<std::int32_t> tokens;
      std::size_t prompt = 0;
      std::int32_t due = 0;
      std::int32_t next = 0;
      bool cancelled = false;
    };
    struct flight {
      sched::step_id step;
      std::vector<sched::drawn_token> drawn;
    };
    std::map<request_id, follower> live;
    std::deque<flight> flying;
    std::uint64_t id = 0;
    std::size_t ended = 0;
    const auto settle = [&](const sched::progress& p) {
      auto& f = live.at(p.id);
      if (p.token >= 0) f.tokens.push_back(p.token);
      if (!p.finished) return;
      const auto answered = static_cast<std::int32_t>(f.tokens.size() - f.prompt);
      BOOST_REQUIRE_EQUAL(answered, p.completion_tokens);
      if (!f.cancelled) BOOST_REQUIRE_EQUAL(answered, f.due);
      live.erase(p.id);
      ++ended;
    };
    for (int i = 0; i < 25'000; ++i) {
      const auto dice = random() % 100;
      if (dice < 10 && live.size() < 40) {
        auto r = ask(++id, 1 + random() % 150, static_cast<std::int32_t>(1 + random() % 60));
        follower f{r.prompt, r.prompt.size(), r.max_tokens, 0, false};
        BOOST_REQUIRE(s.add(r, {}).empty());
        live.emplace(r.id, f);
      } else if (dice < 12 && !live.empty()) {
        auto it = std::next(live.begin(), static_cast<long>(random() % live.size()));
        it->second.cancelled = true;
        if (auto p = s.finish(it->first, sched::finish_reason::cancelled, {})) settle(*p);
      } else if (dice < 60) {
        const auto b = s.schedule({});
        if (!b) continue;
        BOOST_REQUIRE_LE(b->rows, 64);
        BOOST_REQUIRE_LE(b->entries.size(), 8U);
        flight f{b->step, {}};
        std::set<request_id> once;
        for (const auto& e : b->entries) {
          BOOST_REQUIRE(once.insert(e.id).second);
          auto& known = live.at(e.id);
          BOOST_REQUIRE_EQUAL(e.first_position, known.next);
          for (const auto t : e.tokens)
            BOOST_REQUIRE_EQUAL(t, known.tokens.at(static_cast<std::size_t>(known.next++)));
          BOOST_REQUIRE_GE(static_cast<std::int32_t>(e.blocks.size()), sched::blocks_for(known.next));
          BOOST_REQUIRE_EQUAL(e.samples, static_cast<std::size_t>(known.next) == known.tokens.size());
          if (e.samples) f.drawn.push_back({e.id, static_cast<std::int32_t>(random() % 1000)});
        }
        flying.push_back(std::move(f));
        BOOST_REQUIRE_LE(static_cast<std::int32_t>(flying.size()), stages);
      } else if (!flying.empty()) {
        for (const auto& p : s.complete(flying.front().step, flying.front().drawn, {})) settle(p);
        flying.pop_front();
      }
      if (i % 50 == 0) s.check_integrity();
    }
    while (!s.idle()) {
      if (const auto b = s.schedule({}))
        flying.push_back({b->step, draw(*b)});
      else {
        for (const auto& p : s.complete(flying.front().step, flying.front().drawn, {})) settle(p);
        flying.pop_front();
      }
    }
    s.check_integrity();
    BOOST_TEST(ended == id);
    BOOST_TEST(live.empty());
    BOOST_TEST(s.count().kv_blocks_free == 64);
  }
}

BOOST_AUTO_TEST_SUITE_END()
