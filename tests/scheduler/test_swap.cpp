#include "follower.hpp"
#include "scheduler/swap_choice.hpp"
#include "scheduler/swap_pool.hpp"

using std::chrono::microseconds;

BOOST_AUTO_TEST_SUITE(swap)

BOOST_AUTO_TEST_CASE(memory_comes_before_disk_and_full_blocks_are_saved_once) {
  sched::swap_pool pool{3, 2};
  std::vector<std::int32_t> first, second, third;
  std::vector<sched::block_move> moves;
  const std::vector<std::int32_t> blocks{7, 8, 9};
  BOOST_TEST(pool.save(blocks, 2, first, moves));  // block 9 is not full
  BOOST_TEST(moves.size() == 3U);
  BOOST_TEST((!pool.on_disk(first[0]) && !pool.on_disk(first[2])));
  // 7 and 8 are there, 9 may have changed, 5 is new.
  const std::vector<std::int32_t> more{7, 8, 9, 5};
  BOOST_TEST(pool.unsaved(more) == 2);
  moves.clear();
  BOOST_TEST(pool.save(more, 3, second, moves));
  BOOST_REQUIRE(moves.size() == 2U);
  BOOST_TEST((moves[0].kind == sched::move_kind::out && moves[0].block == 9 && pool.on_disk(moves[0].other)));
  BOOST_TEST(second[0] == first[0]);
  BOOST_TEST(pool.references(first[0]) == 2);
  BOOST_TEST(pool.free_slots() == 0);
  BOOST_TEST(!pool.save(std::vector<std::int32_t>{1}, 1, third, moves));
  BOOST_TEST(third.empty());
  pool.check_integrity();
  pool.release_all(first);
  BOOST_TEST(pool.free_slots() == 1);
  pool.overwritten(7);
  BOOST_TEST(pool.unsaved(more) == 2);  // 7 holds something else, 5 was not full
  pool.release_all(second);
  BOOST_TEST(pool.free_slots() == 5);
  pool.check_integrity();
}

BOOST_AUTO_TEST_CASE(random_saves_add_up) {
  std::mt19937 random{3};
  sched::swap_pool pool{20, 20};
  std::vector<std::vector<std::int32_t>> held;
  std::map<std::int32_t, std::uint64_t> store, slots;  // what blocks and slots hold
  std::vector<std::vector<std::uint64_t>> expected;
  std::uint64_t version = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto dice = random() % 10;
    if (dice < 4) {
      std::set<std::int32_t> chosen;
      for (auto n = 1 + random() % 8; n > 0; --n) chosen.insert(static_cast<std::int32_t>(random() % 30));
      const std::vector<std::int32_t> blocks{chosen.begin(), chosen.end()};
      std::vector<std::int32_t> out;
      std::vector<sched::block_move> moves;
      const auto before = pool.free_slots();
      const auto needed = pool.unsaved(blocks);
      BOOST_REQUIRE_EQUAL(pool.save(blocks, blocks.size() - random() % 2, out, moves), needed <= before);
      if (out.empty()) continue;
      for (const auto& m : moves) slots[m.other] = store[m.block];
      held.push_back(out);
      expected.emplace_back();
      for (std::size_t b = 0; b < blocks.size(); ++b) expected.back().push_back(store[blocks[b]]);
    } else if (dice < 7 && !held.empty()) {
      const auto at = random() % held.size();
      for (std::size_t b = 0; b < held[at].size(); ++b)
        BOOST_REQUIRE_EQUAL(slots[held[at][b]], expected[at][b]);
      pool.release_all(held[at]);
      held.erase(held.begin() + static_cast<long>(at));
      expected.erase(expected.begin() + static_cast<long>(at));
    } else {
      const auto block = static_cast<std::int32_t>(random() % 30);
      pool.overwritten(block);
      store[block] = ++version;
    }
    if (i % 50 == 0) pool.check_integrity();
  }
  for (auto& h : held) pool.release_all(h);
  BOOST_TEST(pool.free_slots() == 40);
  pool.check_integrity();
}

BOOST_AUTO_TEST_CASE(the_cheaper_way_is_taken) {
  sched::swap_limits room;
  room.memory_slots = room.disk_slots = 100;
  room.memory_block = microseconds{10};
  room.disk_block = microseconds{100};
  BOOST_TEST((sched::swap_time(room, 3, 2) == microseconds{460}));
  sched::step_costs costs;
  costs.row_ns = 10'000;  // 16 rows: 160 us
  BOOST_TEST(sched::cheaper_to_swap(room, costs, 16, 1, 0, 64));
  BOOST_TEST(!sched::cheaper_to_swap(room, costs, 16, 0, 1, 64));
  costs.row_ns = 1'000;
  BOOST_TEST(!sched::cheaper_to_swap(room, costs, 16, 1, 0, 64));
  // Attention makes long prefixes dear: the same tokens behind many more.
  costs.context_ns = 10;
  BOOST_TEST(sched::cheaper_to_swap(room, costs, 16 * 1000, 1000, 0, 64));
}

// By hand: quanta 1, 2, 4 ms in three queues, one request in each, one at a time, steps of nothing.
BOOST_AUTO_TEST_CASE(next_schedule_times_are_those_of_the_paper) {
  using w = sched::waiting_request;
  const auto never = sched::time::max();
  const std::vector<w> three{{milliseconds{0}, never}, {milliseconds{1}, never}, {milliseconds{3}, never}};
  auto t = sched::next_schedule_times(three, 1, {});
  BOOST_TEST((t[0] == milliseconds{0}));
  BOOST_TEST((t[1] == milliseconds{1}));      // q1 of the first
  BOOST_TEST((t[2] == milliseconds{3 + 2}));  // q1 + q2 of the first, q2 of the second
  t = sched::next_schedule_times(three, 2, {});
  BOOST_TEST((t[2] == microseconds{2500}));
  // About to be promoted.
  const std::vector<w> soon{
      {milliseconds{0}, never}, {milliseconds{1}, never}, {milliseconds{3}, milliseconds{2}}};
  BOOST_TEST((sched::next_schedule_times(soon, 1, {})[2] == milliseconds{2}));
  // Equals go in order.
  t = sched::next_schedule_times(std::vector<w>(3), 1, milliseconds{4});
  BOOST_TEST((t[1] == milliseconds{4} && t[2] == milliseconds{8}));
}

// The follower's promises hold with blocks on the move, and moves happen, in every policy and depth.
BOOST_AUTO_TEST_CASE(random_operations_with_swapping) {
  std::uint64_t blocks_in = 0;
  for (const auto& policy : policies())
    for (std::int32_t stages = 1; stages <= 4; ++stages)
      for (const bool caching : {true, false}) {
        BOOST_TEST_CONTEXT(policy << ", " << stages << " stages, cache " << caching) {
          auto l = small(stages);
          l.policy.name = policy;
          l.policy.starvation = milliseconds{300};
          l.kv_blocks = 30;
          l.max_batch = 4;
          l.prefix_caching = caching;
          l.swap = {30, 20, microseconds{1}, microseconds{5}};
          follower f{l, static_cast<unsigned>(stages)};
          f.run(4'000);
          const auto c = f.under_test().count();
          BOOST_TEST(c.blocks_out > 0U);
          blocks_in += c.blocks_in;
        }
      }
  BOOST_TEST(blocks_in > 1000U);
}

// Bursts of requests on a small pool, with steps, copies and starvation of any length: whoever is swapped out
// comes back, also when all of it is still cached, and while requests wait something is in flight.
BOOST_AUTO_TEST_CASE(bursts_are_served_to_the_end) {
  for (unsigned seed = 0; seed < (fastserve::test::sanitized ? 30 : 100); ++seed) {
    std::mt19937 random{seed};
    const auto up_to = [&](auto most) { return static_cast<std::int32_t>(random() % most); };
    sched::limits l = small(seed % 4 == 0 ? 1 + up_to(3U) : 1);
    l.max_batch = 4;
    l.token_budget = 32;
    l.kv_blocks = 37;
    l.policy.name = "sj-mlfq";
    l.policy.starvation = milliseconds{5};
    l.swap = {up_to(30U), up_to(30U), std::chrono::nanoseconds{1 + up_to(100'000U)},
              std::chrono::nanoseconds{1 + up_to(100'000U)}};
    sched::scheduler s{l};
    sched::time now = milliseconds{1};
    for (std::uint64_t id = 1; id <= 120; ++id) {
      BOOST_REQUIRE(s.add(ask(id, 1 + random() % 120, 1 + up_to(60U)), now).empty());
      now += microseconds{up_to(20U)};
    }
    std::deque<std::pair<sched::step_id, std::vector<sched::drawn_token>>> in_flight;
    while (!s.idle()) {
      while (const auto b = s.schedule(now)) {
        s.take_moves();
        in_flight.emplace_back(b->step, draw(*b, up_to(50U)));
      }
      s.take_moves();
      s.check_integrity();
      BOOST_REQUIRE_MESSAGE(!in_flight.empty(),
                            "seed " << seed << ": requests wait and nothing is in flight");
      now += microseconds{1 + up_to(std::array{20U, 200U, 2'000U, 30'000U}[random() % 4])};
      s.complete(in_flight.front().first, in_flight.front().second, now);
      in_flight.pop_front();
    }
    s.check_integrity();
    BOOST_TEST(s.count().swap_slots_free == s.count().swap_slots);
  }
}

BOOST_AUTO_TEST_CASE(swapping_survives_another_pipeline) {
  auto l = small(2);
  l.policy.name = "sj-mlfq";
  l.kv_blocks = 30;
  l.swap = {20, 10, microseconds{1}, microseconds{5}};
  follower f{l, 4};
  f.run(20'000, true);
  BOOST_TEST(f.under_test().count().blocks_in > 0U);
}

// Where copying is dear nothing is copied.
BOOST_AUTO_TEST_CASE(dear_copies_are_not_made) {
  auto l = small();
  l.policy.name = "sj-mlfq";
  l.kv_blocks = 30;
  l.swap = {100, 0, std::chrono::hours{1}, {}};
  follower f{l, 4};
  f.run(5'000);
  BOOST_TEST(f.under_test().count().preemptions > 10U);
  BOOST_TEST(f.under_test().count().blocks_out == 0U);
}

// One that waits with many blocks makes room before anybody needs it, and is back before its turn.
BOOST_AUTO_TEST_CASE(swaps_ahead_of_need) {
  auto l = small();
  l.policy.name = "srpt";
  l.max_batch = 2;
  l.kv_blocks = 31;
  l.token_budget = 256;
  l.max_context = 1000;
  l.swap = {100, 0, microseconds{1}, {}};
  sched::scheduler s{l};
  int now = 0;
  std::size_t ahead_out = 0;  // blocks that no step of the moment waits for
  std::size_t ahead_in = 0;
  const auto round = [&] {
    const auto b = s.schedule(milliseconds{++now});
    BOOST_REQUIRE(b);
    if (const auto order = s.take_moves(); order && order->ticket != b->ticket)
      for (const auto& m : order->moves) ++(m.kind == sched::move_kind::out ? ahead_out : ahead_in);
    s.complete(b->step, draw(*b), milliseconds{++now});
    s.check_integrity();
    return b->entries.size();
  };
  // Two long ones, then shorter ones that go first: the long ones are resident and wait.
  for (std::uint64_t id = 1; id <= 2; ++id) s.add(ask(id, 150, 90), {});
  for (int i = 0; i < 3; ++i) round();
  for (std::uint64_t id = 4; id <= 7; ++id) s.add(ask(id, 60, static_cast<std::int32_t>(4 * id)), {});
  for (int i = 0; i < 8; ++i) round();
  BOOST_TEST(ahead_out > 0U);
  while (!s.idle()) round();
  BOOST_TEST(ahead_in > 0U);
  BOOST_TEST(s.count().swap_slots_free == 100);
}

BOOST_AUTO_TEST_SUITE_END()
