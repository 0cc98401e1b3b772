#include "follower.hpp"

BOOST_AUTO_TEST_SUITE(choices)

namespace {

sched::request several(std::uint64_t id, std::size_t prompt, std::int32_t max_tokens, std::uint64_t n) {
  auto r = ask(id, prompt, max_tokens);
  for (std::uint64_t i = 1; i < n; ++i) r.choices.push_back(request_id{id + i});
  return r;
}

std::vector<sched::drawn_token> draw_all(const sched::micro_batch& b) {
  std::vector<sched::drawn_token> out;
  for (const auto& e : b.entries) {
    if (e.samples) out.push_back({e.id, 5});
    for (const auto id : e.choices) out.push_back({id, 6});
  }
  return out;
}

}  // namespace

// Four answers to 40 tokens: two full blocks are shared, of the third each but the last to write makes a
// copy.
BOOST_AUTO_TEST_CASE(the_prompt_is_computed_once_and_its_last_block_copied) {
  sched::scheduler s{small()};
  BOOST_TEST(s.add(several(1, 40, 3, 4), {}).empty());
  auto b = s.schedule({});
  BOOST_REQUIRE(b);
  BOOST_TEST(b->rows == 40);
  BOOST_TEST(b->entries[0].choices.size() == 3U);
  auto p = s.complete(b->step, draw_all(*b), {});
  BOOST_REQUIRE(p.size() == 4U);
  BOOST_TEST(p[3].token == 6);
  s.check_integrity();
  BOOST_TEST(s.count().kv_blocks_free == 64 - 3);
  b = s.schedule({});
  BOOST_REQUIRE(b);
  BOOST_TEST(b->rows == 4);
  const auto order = s.take_moves();
  BOOST_REQUIRE(order);
  BOOST_TEST(order->moves.size() == 3U);
  BOOST_TEST(b->ticket == order->ticket);
  std::set<std::int32_t> tails;
  for (const auto& e : b->entries) {
    BOOST_TEST(e.blocks[0] == b->entries[0].blocks[0]);
    BOOST_TEST(e.blocks[1] == b->entries[0].blocks[1]);
    tails.insert(e.blocks[2]);
  }
  BOOST_TEST(tails.size() == 4U);
  for (const auto& m : order->moves)
    BOOST_TEST((m.kind == sched::move_kind::copy && tails.contains(m.other)));
  s.check_integrity();
  s.complete(b->step, draw_all(*b), {});
  b = s.schedule({});
  BOOST_TEST(!s.take_moves());
  p = s.complete(b->step, draw_all(*b), {});
  for (const auto& x : p) BOOST_TEST((x.finished && x.completion_tokens == 3 && x.prompt_tokens == 40));
  BOOST_TEST(s.idle());
  BOOST_TEST(s.count().kv_blocks_free == 64);
  BOOST_TEST(s.count().prompt_tokens == 40U);
}

BOOST_AUTO_TEST_CASE(full_blocks_need_no_copies) {
  sched::scheduler s{small()};
  s.add(several(1, 32, 3, 3), {});
  while (!s.idle()) {
    const auto b = s.schedule({});
    BOOST_TEST(!s.take_moves());
    s.complete(b->step, draw_all(*b), {});
    s.check_integrity();
  }
  BOOST_TEST(s.count().completion_tokens == 9U);
}

// Nothing is computed twice but the last token, and not into the block that the cache keeps.
BOOST_AUTO_TEST_CASE(of_a_prompt_that_is_known_whole_one_row_is_computed) {
  sched::scheduler s{small()};
  for (std::uint64_t id : {1, 2}) {
    auto r = ask(1, 32, 2);
    r.id = request_id{id};
    s.add(r, {});
    auto b = s.schedule({});
    BOOST_REQUIRE(b);
    const auto moves = s.take_moves();
    if (id == 1) {
      BOOST_TEST(b->rows == 32);
      BOOST_TEST(!moves);
    } else {
      BOOST_TEST(b->rows == 1);
      BOOST_TEST(b->entries[0].first_position == 31);
      BOOST_REQUIRE(moves);
      BOOST_REQUIRE(moves->moves.size() == 1U);
      BOOST_TEST((moves->moves[0].kind == sched::move_kind::copy));
      BOOST_TEST(b->ticket == moves->ticket);
      const auto& blocks = b->entries[0].blocks;
      BOOST_TEST(std::count(blocks.begin(), blocks.end(), moves->moves[0].other) == 0);
      BOOST_TEST(std::count(blocks.begin(), blocks.end(), moves->moves[0].block) == 1);
    }
    while (b) {
      s.complete(b->step, draw_all(*b), {});
      s.check_integrity();
      b = s.schedule({});
    }
    BOOST_TEST(s.idle());
    BOOST_TEST(s.count().kv_blocks_free == 64);
  }
  BOOST_TEST(s.count().prefix_hit_tokens == 31U);
}

BOOST_AUTO_TEST_CASE(one_token_each_ends_them_all_at_once) {
  sched::scheduler s{small()};
  s.add(several(1, 20, 1, 5), {});
  const auto b = s.schedule({});
  BOOST_TEST(s.complete(b->step, draw_all(*b), {}).size() == 5U);
  BOOST_TEST(s.idle());
  BOOST_TEST(s.count().kv_blocks_free == 64);
}

BOOST_AUTO_TEST_CASE(the_next_one_takes_the_place_of_a_cancelled_first) {
  const auto cancelled = sched::finish_reason::cancelled;
  sched::scheduler s{small()};
  s.add(several(1, 100, 2, 4), {});
  BOOST_TEST(s.finish(request_id{1}, cancelled, {}).has_value());  // before anything ran
  BOOST_TEST(s.finish(request_id{3}, cancelled, {}).has_value());
  auto b = s.schedule({});
  BOOST_TEST((b->entries[0].id == request_id{2}));
  BOOST_TEST(!s.finish(request_id{2}, cancelled, {}));  // in the middle of the prompt
  BOOST_TEST(s.complete(b->step, draw_all(*b), {}).size() == 1U);
  s.check_integrity();
  b = s.schedule({});
  BOOST_REQUIRE(b);
  BOOST_TEST((b->entries[0].id == request_id{4}));
  BOOST_TEST(b->entries[0].first_position == 64);  // what was computed is found again
  s.complete(b->step, draw_all(*b), {});
  b = s.schedule({});
  s.complete(b->step, draw_all(*b), {});
  BOOST_TEST(s.idle());
  s.check_integrity();
}

BOOST_AUTO_TEST_CASE(refuses_ids_in_use) {
  sched::scheduler s{small()};
  s.add(several(1, 10, 2, 2), {});
  BOOST_TEST(s.add(several(2, 10, 2, 1), {}).find("in use") != std::string::npos);
  BOOST_TEST(s.add(several(0, 10, 2, 2), {}).find("in use") != std::string::npos);
  s.check_integrity();
}

// The follower's promises hold for every choice, with swapping, cancels and lost pipelines.
BOOST_AUTO_TEST_CASE(random_operations_with_choices) {
  for (const auto& policy : policies())
    for (std::int32_t stages = 1; stages <= 3; ++stages)
      for (const bool swapping : {false, true}) {
        BOOST_TEST_CONTEXT(policy << ", " << stages << " stages, swapping " << swapping) {
          auto l = small(stages);
          l.policy.name = policy;
          l.policy.starvation = milliseconds{300};
          l.kv_blocks = 30;
          if (swapping) l.swap = {30, 20, std::chrono::microseconds{1}, std::chrono::microseconds{5}};
          follower f{l, static_cast<unsigned>(stages)};
          f.run(4'000, swapping && stages == 2, 5);
          BOOST_TEST(f.under_test().count().blocks_copied > 20U);
        }
      }
}

BOOST_AUTO_TEST_SUITE_END()
