#include "follower.hpp"

BOOST_AUTO_TEST_SUITE(replicas)

namespace {

sched::pipeline_offer offer(std::int64_t prefill, std::int64_t answer, std::int32_t cached = 0,
                            std::int64_t kv_tokens = 1000, bool open = true) {
  return {open, kv_tokens, {prefill, answer}, cached};
}

// Steps of `rows` rows that take `per_row` and `fixed`.
sched::cost_model costs_of(double fixed_us, double per_row_us) {
  sched::cost_model out;
  for (std::int64_t rows = 1; rows <= 64; ++rows)
    out.observe(
        {rows, rows, 0},
        sched::time{static_cast<std::int64_t>(1e3 * (fixed_us + per_row_us * static_cast<double>(rows)))});
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_least_loaded_pipeline_is_chosen_and_the_first_of_equals) {
  const sched::router r{3, 8, 64};
  const sched::request_size what{100, 50, 150};
  using offers = std::vector<sched::pipeline_offer>;
  BOOST_TEST(r.choose(what, offers{offer(10, 0), offer(0, 0), offer(0, 0)}) == 1);
  BOOST_TEST(r.choose(what, offers{offer(0, 0), offer(0, 0), offer(0, 0)}) == 0);
  BOOST_TEST(r.choose(what, offers{offer(0, 0, 0, 1000, false), offer(9, 9), offer(9, 8)}) == 2);
  BOOST_TEST(r.choose(what, offers{offer(0, 0, 0, 1000, false), offer(0, 0, 0, 1000, false)}) == -1);
}

BOOST_AUTO_TEST_CASE(a_cached_prefix_is_worth_what_it_saves) {
  const sched::router r{2, 8, 64};
  const sched::request_size what{100, 50, 150};
  using offers = std::vector<sched::pipeline_offer>;
  BOOST_TEST(r.choose(what, offers{offer(0, 0), offer(60, 0, 80)}) == 1);
  BOOST_TEST(r.choose(what, offers{offer(0, 0), offer(100, 0, 80)}) == 0);
}

BOOST_AUTO_TEST_CASE(a_request_goes_where_it_fits) {
  const sched::router r{2, 8, 64};
  using offers = std::vector<sched::pipeline_offer>;
  BOOST_TEST(r.choose({100, 50, 150}, offers{offer(0, 0, 0, 128), offer(500, 0, 0, 256)}) == 1);
  // Into the largest where it fits nowhere.
  BOOST_TEST(r.choose({100, 400, 500}, offers{offer(0, 0, 0, 128), offer(500, 0, 0, 256)}) == 1);
}

// One takes three times as long for the same steps: it gets a quarter of the work, whatever the sizes of its
// steps.
BOOST_AUTO_TEST_CASE(a_slow_pipeline_gets_less) {
  sched::router r{2, 8, 64};
  const auto fast = costs_of(100, 10);
  const auto slow = costs_of(300, 30);
  const std::vector<const sched::cost_model*> seen{&fast, &slow};
  r.learn(seen);
  BOOST_TEST(r.pace(1) / r.pace(0) == 3.0, boost::test_tools::tolerance(0.01));
  std::vector<sched::pipeline_offer> offers{offer(0, 0), offer(0, 0)};
  std::vector<int> dealt(2);
  for (int i = 0; i < 100; ++i) {
    const auto to = static_cast<std::size_t>(r.choose({10, 10, 20}, offers));
    ++dealt[to];
    offers[to].load.prefill_tokens += 10;
    offers[to].load.answer_tokens += 10;
  }
  BOOST_TEST(std::abs(dealt[0] - 75) <= 2);
}

// Short answers make the work to be done less than what was asked for.
BOOST_AUTO_TEST_CASE(answers_are_taken_to_be_as_long_as_those_before) {
  sched::router r{2, 8, 64};
  using offers = std::vector<sched::pipeline_offer>;
  const offers two{offer(0, 0), offer(0, 100, 60)};
  BOOST_TEST(r.choose({100, 100, 200}, two) == 0);
  for (int i = 0; i < 50; ++i) r.answered(100, 10);
  BOOST_TEST(r.choose({100, 100, 200}, two) == 1);
}

BOOST_AUTO_TEST_CASE(requests_are_spread_and_move_with_their_tokens) {
  auto l = small();
  l.token_budget = 128;
  sched::replica_set s{{l, l}};
  for (std::uint64_t i = 1; i <= 4; ++i) BOOST_REQUIRE(s.add(ask(i, 20, 10), milliseconds{1}).empty());
  BOOST_TEST(s.add(ask(4, 20, 10), milliseconds{1}).find("in use") != std::string::npos);
  BOOST_TEST(s.of(0).load().prefill_tokens == 40);
  BOOST_TEST(s.of(1).load().prefill_tokens == 40);
  const auto b = s.schedule(1, milliseconds{2});
  BOOST_REQUIRE((b && b->entries.size() == 2));
  const auto p = s.complete(1, b->step, draw(*b, 7), milliseconds{3});
  BOOST_REQUIRE(p.size() == 2);
  const auto flying = s.schedule(1, milliseconds{4});  // is lost
  BOOST_REQUIRE(flying);
  BOOST_TEST(s.lose(1, milliseconds{5}).empty());
  s.check_integrity();
  BOOST_TEST(!s.schedule(1, milliseconds{5}));
  BOOST_TEST(s.of(0).load().prefill_tokens == 2 * 20 + 2 * 21);
  BOOST_TEST(s.count().kv_blocks == 64);
  BOOST_TEST(s.tokens(p[0].id).size() == 21U);
  const auto all = s.schedule(0, milliseconds{6});
  BOOST_REQUIRE(all);
  int moved = 0;
  for (const auto& e : all->entries)
    if (e.id == p[0].id || e.id == p[1].id) moved += e.tokens.back() == 7 ? 1 : 0;
  BOOST_TEST(moved == 2);
  s.complete(0, all->step, draw(*all), milliseconds{7});
  // The other one stands again, and what comes next goes there.
  BOOST_TEST(s.restore(1, 2, 32, milliseconds{8}).empty());
  BOOST_TEST(s.add(ask(9, 20, 10), milliseconds{9}).empty());
  BOOST_TEST(s.of(1).load().prefill_tokens == 20);
  BOOST_TEST(s.count().kv_blocks == 96);
  s.check_integrity();
}

BOOST_AUTO_TEST_CASE(a_text_goes_where_it_is_cached_as_long_as_it_is) {
  sched::replica_set s{{small(), small(), small()}};
  for (std::uint64_t i = 1; i <= 3; ++i) BOOST_REQUIRE(s.add(ask(i, 40, 1), {}).empty());
  for (std::size_t i = 0; i < 3; ++i)
    while (const auto b = s.schedule(i, {})) s.complete(i, b->step, draw(*b), {});
  BOOST_REQUIRE(s.idle());
  const auto again = [&](std::uint64_t id) {
    auto what = ask(2, 40, 1);
    what.id = request_id{id};
    BOOST_REQUIRE(s.add(what, {}).empty());
    const auto at = s.pipeline_of(request_id{id}).value();
    s.finish(request_id{id}, sched::finish_reason::cancelled, {});
    s.check_integrity();
    return at;
  };
  BOOST_TEST(again(10) == 1U);
  s.lose(1, {});
  BOOST_TEST(again(11) == 0U);
  s.restore(1, 1, 64, {});  // with other memory
  BOOST_TEST(again(12) == 0U);
}

BOOST_AUTO_TEST_CASE(first_blocks_come_and_go_with_the_caches) {
  sched::first_blocks index;
  sched::block_pool pool{8}, other_pool{8};
  sched::prefix_cache cache{pool, &index, 3}, other{other_pool, &index, 5};
  const auto prompt = ask(1, 40, 1).prompt;
  const auto key = sched::prefix_cache::first_key(9, prompt).value();
  BOOST_TEST(!sched::prefix_cache::first_key(9, std::span{prompt}.first(15)));
  std::vector<std::int32_t> blocks, other_blocks;
  pool.allocate(2, blocks);
  other_pool.allocate(2, other_blocks);
  cache.insert(9, prompt, 40, blocks, 0);
  other.insert(9, prompt, 40, other_blocks, 0);
  BOOST_TEST(index.size() == 1U);  // one text, and of each cache its first block alone
  BOOST_TEST(index.holders(key).size() == 2U);
  for (const auto b : {blocks[1], blocks[0]}) {
    pool.release(b);
    cache.released(b);
  }
  BOOST_TEST(cache.evict(1) == 1);
  BOOST_TEST(index.holders(key).size() == 2U);  // the second block went
  BOOST_TEST(cache.evict(1) == 1);
  BOOST_TEST(index.holders(key).size() == 1U);
  BOOST_TEST(index.holders(key)[0] == 5U);
  other.clear();
  BOOST_TEST(index.size() == 0U);
}

// A pipeline that comes back takes its share of what waits, and those that have begun stay where they are.
BOOST_AUTO_TEST_CASE(what_waits_is_dealt_out_anew) {
  auto l = small();
  auto down = l;
  down.kv_blocks = 0;
  sched::replica_set s{{l, down}};
  BOOST_TEST(!s.stands(1));
  for (std::uint64_t i = 1; i <= 20; ++i) BOOST_REQUIRE(s.add(ask(i, 20, 10), milliseconds{i}).empty());
  const auto b = s.schedule(0, milliseconds{30});
  BOOST_REQUIRE(b);
  s.restore(1, 1, 64, milliseconds{31});
  s.check_integrity();
  BOOST_TEST(s.of(0).count().running == b->entries.size());
  BOOST_TEST(s.of(1).load().prefill_tokens >= 140);
  BOOST_TEST(s.of(0).load().prefill_tokens >= 140);
}

BOOST_AUTO_TEST_CASE(choices_stay_together) {
  auto l = small();
  sched::replica_set s{{l, l, l}};
  for (std::uint64_t i = 1; i <= 9; i += 3) {
    auto r = ask(i, 40, 30);
    r.choices = {request_id{i + 1}, request_id{i + 2}};
    BOOST_REQUIRE(s.add(r, milliseconds{1}).empty());
  }
  for (std::size_t i = 0; i < 3; ++i) {
    const auto b = s.schedule(i, milliseconds{2});
    BOOST_REQUIRE((b && b->entries.size() == 1 && b->entries[0].choices.size() == 2));
    std::vector<sched::drawn_token> drawn{{b->entries[0].id, 5}};
    for (const auto id : b->entries[0].choices) drawn.push_back({id, 6});
    s.complete(i, b->step, drawn, milliseconds{3});
  }
  s.lose(2, milliseconds{4});
  s.check_integrity();
  BOOST_TEST(s.of(0).count().waiting + s.of(1).count().waiting == 3U);
  BOOST_TEST((s.of(0).count().waiting == 3U || s.of(1).count().waiting == 3U));
}

// One that fits into no other pipeline waits for its own; when that does not come back, its answer is cut.
BOOST_AUTO_TEST_CASE(what_fits_nowhere_else_waits) {
  auto large = small();
  auto little = small();
  little.kv_blocks = 4;
  sched::replica_set s{{little, large}};
  BOOST_REQUIRE(s.add(ask(1, 50, 100), milliseconds{1}).empty());
  BOOST_REQUIRE(s.add(ask(2, 100, 100), milliseconds{1}).empty());
  BOOST_TEST(s.of(1).count().waiting == 2U);
  auto b = s.schedule(1, milliseconds{2});
  s.complete(1, b->step, draw(*b), milliseconds{3});
  BOOST_TEST(s.lose(1, milliseconds{4}).empty());
  BOOST_TEST(s.of(1).count().waiting == 2U);
  BOOST_TEST(!s.schedule(0, milliseconds{4}));
  const auto ended = s.give_up(1, milliseconds{5});
  BOOST_REQUIRE(ended.size() == 1U);
  BOOST_TEST((ended[0].id == request_id{2}));
  BOOST_TEST(s.of(0).count().waiting == 1U);
  std::int32_t tokens = 0;
  for (int i = 6; !s.idle(); ++i) {
    BOOST_REQUIRE_LT(i, 100);
    b = s.schedule(0, milliseconds{i});
    BOOST_REQUIRE(b);
    for (const auto& p : s.complete(0, b->step, draw(*b), milliseconds{i})) tokens = p.completion_tokens;
  }
  BOOST_TEST(tokens == 64 - 50);
}

// Two and three pipelines that are lost, given up and put up again at random, with cancels, swapping and
// choices: every request ends once with all its tokens, and every row finds the KV of those before it.
BOOST_AUTO_TEST_CASE(random_losses_keep_every_promise) {
  for (const std::size_t pipelines : {2, 3})
    for (const auto& policy : policies()) {
      BOOST_TEST_CONTEXT(policy << ", " << pipelines << " pipelines") {
        auto l = small(2);
        l.policy.name = policy;
        l.policy.starvation = milliseconds{300};
        l.kv_blocks = 30;
        l.swap = {20, 20, milliseconds{1}, milliseconds{2}};
        follower f{l, static_cast<unsigned>(pipelines), pipelines};
        f.run(10'000, true, 4);
        BOOST_TEST(f.restarts() > 100);
        BOOST_TEST(f.given_up() > 5);
        BOOST_TEST(f.under_test().count().completion_tokens > 1000U);
      }
    }
}

BOOST_AUTO_TEST_SUITE_END()
