#include "follower.hpp"

// Steps that are formed before the tokens of the one in flight are known.

BOOST_AUTO_TEST_SUITE(ahead)

namespace {

sched::limits one_ahead() {
  auto l = small();
  l.ahead = true;
  return l;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_row_waits_for_no_token) {
  sched::scheduler s{one_ahead()};
  s.add(ask(1, 15, 4), milliseconds{1});
  const auto first = s.schedule(milliseconds{2});
  BOOST_REQUIRE(first);
  BOOST_TEST(first->followed);
  const auto second = s.schedule(milliseconds{2});
  BOOST_REQUIRE(second);
  BOOST_REQUIRE(second->entries.size() == 1U);
  const auto& row = second->entries[0];
  BOOST_TEST(row.first_position == 15);
  BOOST_REQUIRE(row.tokens.size() == 1U);
  BOOST_TEST(row.tokens[0] == sched::coming_token);
  BOOST_TEST(row.samples);
  BOOST_TEST(row.blocks.size() == 1U);
  BOOST_TEST(s.load().prefill_tokens == 0);
  BOOST_TEST(!s.schedule(milliseconds{2}));  // one step ahead, no more
  s.check_integrity();

  auto p = s.complete(first->step, draw(*first, 7), milliseconds{3});
  BOOST_REQUIRE(p.size() == 1U);
  BOOST_TEST(p[0].token == 7);
  s.check_integrity();
  const auto third = s.schedule(milliseconds{3});
  BOOST_REQUIRE(third);
  BOOST_TEST(third->entries[0].first_position == 16);
  BOOST_TEST(third->entries[0].tokens[0] == sched::coming_token);
  BOOST_TEST(third->entries[0].blocks.size() == 2U);
  s.complete(second->step, draw(*second, 8), milliseconds{4});
  const auto fourth = s.schedule(milliseconds{4});
  BOOST_REQUIRE(fourth);
  BOOST_TEST(!fourth->followed);  // its token is the last for sure
  s.complete(third->step, draw(*third, 9), milliseconds{5});
  BOOST_TEST(!s.schedule(milliseconds{5}));
  BOOST_TEST(s.tokens(request_id{1}).size() == 18U);
  p = s.complete(fourth->step, draw(*fourth, 10), milliseconds{6});
  BOOST_REQUIRE(p.size() == 1U);
  BOOST_TEST((p[0].finished == sched::finish_reason::length));
  BOOST_TEST(p[0].completion_tokens == 4);
  BOOST_TEST(s.idle());
}

// A request that ends by its token, or by what the caller finds in the text, ends at once; its row in flight
// keeps the memory.
BOOST_AUTO_TEST_CASE(a_row_behind_the_end_is_for_nothing) {
  for (const bool by_id : {true, false}) {
    sched::scheduler s{one_ahead()};
    auto r = ask(1, 20, 50);
    if (by_id) r.stop_ids = {9};
    s.add(r, {});
    const auto a = s.schedule({});
    const auto b = s.schedule({});
    BOOST_REQUIRE((a && b));
    const auto p = s.complete(a->step, draw(*a, 9), {});
    BOOST_REQUIRE(p.size() == 1U);
    BOOST_TEST(p[0].token == 9);
    BOOST_TEST(p[0].finished.has_value() == by_id);
    if (!by_id) {
      const auto ended = s.finish(request_id{1}, sched::finish_reason::stop, {});
      BOOST_REQUIRE(ended);
      BOOST_TEST((ended->finished == sched::finish_reason::stop));
      BOOST_TEST(ended->completion_tokens == 1);
    }
    s.check_integrity();
    BOOST_TEST(!s.knows(request_id{1}));
    BOOST_TEST(!s.idle());
    BOOST_TEST(s.count().kv_blocks_free == 62);
    BOOST_TEST(s.complete(b->step, draw(*b), {}).empty());
    BOOST_TEST(s.idle());
    BOOST_TEST(s.count().kv_blocks_free == 64);
    s.check_integrity();
  }
}

// Those whose tokens have to be known first are served as often as all others: nobody runs ahead of them.
BOOST_AUTO_TEST_CASE(nobody_runs_ahead_of_one_that_cannot) {
  for (const bool choices : {false, true}) {
    sched::scheduler s{one_ahead()};
    auto r = ask(1, 3, 50);
    if (choices)
      r.choices = {request_id{7}};
    else
      r.runs_ahead = false;
    s.add(r, {});
    s.add(ask(2, 3, 50), {});
    auto b = s.schedule({});
    BOOST_REQUIRE((b && b->entries.size() == 2));
    BOOST_TEST(!b->followed);
    BOOST_TEST(!s.schedule({}));
    auto drawn = draw(*b);
    if (choices) drawn.insert(drawn.begin() + 1, {request_id{7}, 4});
    BOOST_TEST(s.complete(b->step, drawn, {}).size() == drawn.size());
    s.check_integrity();
    b = s.schedule({});
    BOOST_REQUIRE((b && b->entries.size() == drawn.size()));
    s.take_moves();                      // a choice writes to a block of its own
    BOOST_TEST(b->followed == choices);  // the choices have their tokens
    BOOST_TEST(s.schedule({}).has_value() == choices);
  }
}

// Who may take another one's memory gets it when that one's rows are back, not when it happens to rest.
BOOST_AUTO_TEST_CASE(steps_go_one_by_one_while_memory_has_to_change_hands) {
  auto l = one_ahead();
  l.kv_blocks = 4;
  l.prefix_caching = false;
  sched::scheduler s{l};
  s.add(ask(1, 31, 30), milliseconds{1});
  s.add(ask(2, 17, 30), milliseconds{2});
  auto a = s.schedule(milliseconds{3});
  auto b = s.schedule(milliseconds{3});
  BOOST_REQUIRE((a && b && b->entries.size() == 2));
  s.complete(a->step, draw(*a), milliseconds{4});
  a = s.schedule(milliseconds{4});  // the first needs a block that only the second has
  BOOST_REQUIRE(a);
  BOOST_REQUIRE(a->entries.size() == 1U);
  BOOST_TEST((a->entries[0].id == request_id{2}));
  BOOST_TEST(!a->followed);
  s.complete(b->step, draw(*b), milliseconds{5});
  BOOST_TEST(!s.schedule(milliseconds{5}));
  s.complete(a->step, draw(*a), milliseconds{6});
  b = s.schedule(milliseconds{6});
  BOOST_REQUIRE(b);
  BOOST_TEST((b->entries[0].id == request_id{1}));
  BOOST_TEST(s.count().preemptions == 1U);
  s.check_integrity();
}

// What a step costs is what lies between two results, whenever it was formed.
BOOST_AUTO_TEST_CASE(costs_are_those_of_one_step) {
  sched::scheduler s{one_ahead()};
  s.add(ask(1, 1, 200), {});
  auto now = milliseconds{10};
  auto a = s.schedule(now);
  for (int i = 0; i < 100; ++i) {
    const auto b = s.schedule(now);
    BOOST_REQUIRE(b);
    now += milliseconds{10};
    s.complete(a->step, draw(*a), now);
    a = b;
  }
  const auto costs = s.costs().solve();
  const auto step = costs.compute({1, 1, 50}) + costs.draw({1, 1, 50});
  BOOST_TEST(std::abs((step - milliseconds{10}).count()) < 500'000);
}

BOOST_AUTO_TEST_CASE(several_stages_do_without) {
  auto l = small(2);
  l.ahead = true;
  sched::scheduler s{l};
  s.add(ask(1, 3, 50), {});
  const auto a = s.schedule({});
  BOOST_REQUIRE(a);
  BOOST_TEST(!a->followed);
  BOOST_TEST(!s.schedule({}));
  s.restart(1, 64, {}, {}, true);
  BOOST_TEST(s.schedule({}).has_value());
  BOOST_TEST(s.schedule({}).has_value());
}

// As random_operations_keep_every_promise, with stop tokens, choices, requests that cannot run ahead, lost
// pipelines and swapping; and the rows of tokens to come find the KV of those before them.
BOOST_AUTO_TEST_CASE(random_operations_keep_every_promise) {
  for (const auto& policy : policies())
    for (const bool lost : {false, true})
      for (const bool swaps : {false, true}) {
        BOOST_TEST_CONTEXT(policy << (lost ? ", lost" : "") << (swaps ? ", swaps" : "")) {
          auto l = one_ahead();
          l.policy.name = policy;
          l.policy.starvation = milliseconds{300};
          l.kv_blocks = 30;
          if (swaps) l.swap = {20, 20, milliseconds{1}, milliseconds{2}};
          follower f{l, 17};
          f.run(8'000, lost, 3);
          const auto c = f.under_test().count();
          BOOST_TEST(f.rows_ahead() > 100);
          BOOST_TEST(f.rows_for_nothing() > 5);
          BOOST_TEST(c.preemptions > 10U);
          BOOST_TEST(c.prefix_hit_tokens > 1000U);
        }
      }
}

BOOST_AUTO_TEST_CASE(random_losses_of_several_pipelines) {
  auto l = one_ahead();
  l.kv_blocks = 30;
  follower f{l, 3, 3};
  f.run(10'000, true, 4);
  BOOST_TEST(f.restarts() > 100);
  BOOST_TEST(f.rows_ahead() > 100);
}

BOOST_AUTO_TEST_SUITE_END()
