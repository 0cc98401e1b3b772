#include <boost/test/unit_test.hpp>
#include <chrono>
#include <random>
#include <vector>

#include "actors/liveness.hpp"
#include "actors/stragglers.hpp"
#include "actors/stuck_watch.hpp"

namespace act = fastserve::actors;
using namespace std::chrono_literals;

namespace {
using found = std::vector<std::size_t>;
}

BOOST_AUTO_TEST_SUITE(liveness_suite)

BOOST_AUTO_TEST_CASE(finds_who_is_silent_once_and_in_time) {
  act::liveness l{3, 1s, 1s, 0s};
  l.forget(2);
  found late;
  std::chrono::nanoseconds when{};
  for (auto now = 0ms; now < 5s; now += 100ms) {
    l.heard(0, now);
    if (now <= 2s) l.heard(1, now);
    for (const auto p : l.look(now)) {
      late.push_back(p);
      when = now;
    }
  }
  BOOST_TEST(late == found{1}, boost::test_tools::per_element());
  BOOST_TEST((when > 3s && when <= 3100ms));  // deadline and one look after the last sign of life
}

BOOST_AUTO_TEST_CASE(the_first_sign_of_life_may_take_longer) {
  act::liveness l{1, 1s, 10s, 0s};
  found late;
  std::chrono::nanoseconds now{};
  for (; late.empty() && now < 60s; now += 100ms) late = l.look(now);
  BOOST_TEST((now > 10s && now < 10500ms));
}

// Stopped for longer than the deadline, the watcher takes nobody for dead: their signs may wait unread.
BOOST_AUTO_TEST_CASE(a_late_watcher_accuses_nobody) {
  act::liveness l{1, 1s, 1s, 0s};
  l.heard(0, 0s);
  BOOST_TEST(l.look(100ms).empty());
  BOOST_TEST(l.look(30s).empty());
  for (auto now = 30100ms; now <= 31s; now += 100ms) BOOST_TEST(l.look(now).empty());
  BOOST_TEST(l.look(31100ms) == found{0}, boost::test_tools::per_element());
}

// Nor does one whose messages are not read for half the deadline.
BOOST_AUTO_TEST_CASE(what_waits_unread_is_no_silence) {
  act::liveness l{1, 1s, 1s, 0s};
  for (auto now = 100ms; now <= 3s; now += 100ms) BOOST_TEST(l.look(now, 600ms).empty());
  for (auto now = 3100ms; now <= 4s; now += 100ms) BOOST_TEST(l.look(now, 1ms).empty());
  BOOST_TEST(l.look(4100ms, 1ms) == found{0}, boost::test_tools::per_element());
}

// A network that stalls for ever longer is not taken for a death; one that never stalled is found at the
// deadline.
BOOST_AUTO_TEST_CASE(the_deadline_follows_the_link) {
  act::liveness l{2, 1s, 10s, 0s};
  std::vector<std::chrono::milliseconds> stalls{300ms, 600ms, 1300ms, 3s};
  auto now = 100ms;
  l.heard(1, now);
  for (const auto stall : stalls) {
    for (const auto end = now + stall; now < end; now += 100ms) {
      l.heard(0, now);
      BOOST_TEST(l.look(now).empty());
    }
    l.heard(1, now);
  }
  BOOST_TEST((l.deadline(0) == 1s));
  BOOST_TEST((l.deadline(1) == 10s));  // ten deadlines, and no more, however long the stall
  found late;
  const auto last = now;
  for (; late.empty() && now < last + 60s; now += 100ms) {
    l.heard(0, now);
    late = l.look(now);
  }
  BOOST_TEST(late == found{1}, boost::test_tools::per_element());
  BOOST_TEST((now - last > 10s && now - last <= 10200ms));
}

// What comes aside of the link keeps a peer alive while the link stalls, for no longer than that may take;
// when both fall silent the deadline is the same as ever.
BOOST_AUTO_TEST_CASE(signs_aside_of_the_link_count_for_a_while) {
  act::liveness l{2, 1s, 1s, 0s, 30s};
  auto now = 100ms;
  for (const auto p : {0, 1}) l.heard(static_cast<std::size_t>(p), now);
  found late;
  const auto last_of_link = now;
  auto last_of_both = now;
  for (now += 100ms; late.empty(); now += 100ms) {
    if (now < 10s) BOOST_TEST(l.heard_aside(1, now));
    if (now < 10s) last_of_both = now;
    l.heard(0, now);
    late = l.look(now);
  }
  BOOST_TEST(late == found{1}, boost::test_tools::per_element());
  BOOST_TEST((now - last_of_both > 1s && now - last_of_both <= 1200ms));
  BOOST_TEST((now - last_of_link > 10s));

  act::liveness endless{1, 1s, 1s, 0s, 30s};
  endless.heard(0, 0s);
  late.clear();
  for (now = 100ms; late.empty() && now < 60s; now += 100ms) {
    endless.heard_aside(0, now);
    late = endless.look(now);
  }
  BOOST_TEST((now > 31s && now <= 31300ms));
  BOOST_TEST(!act::liveness(1, 1s, 1s, 0s).heard_aside(0, 100ms));
}

BOOST_AUTO_TEST_CASE(signs_aside_hide_no_gap_of_the_link) {
  act::liveness l{1, 1s, 1s, 0s, 30s};
  auto now = 0ms;
  l.heard(0, now);
  for (now = 100ms; now < 600ms; now += 100ms) {
    l.heard_aside(0, now);
    BOOST_TEST(l.look(now).empty());
  }
  l.heard(0, now);
  BOOST_TEST((l.deadline(0) == 2400ms));
}

// As a rank hears a leader at the other end of a lossy network: 200 ms on the way and three datagrams lost of
// ten.
BOOST_AUTO_TEST_CASE(lost_datagrams_are_no_death) {
  std::mt19937 random{1};
  std::bernoulli_distribution lost{0.3};
  act::liveness l{1, 1s, 1s, 0s, 1h};
  auto now = 0ms;
  l.heard(0, now);
  for (now = 300ms; now < 1h; now += 100ms) {
    if (!lost(random)) l.heard_aside(0, now);
    BOOST_REQUIRE(l.look(now).empty());
  }
}

BOOST_AUTO_TEST_CASE(a_gap_is_forgotten) {
  act::liveness l{1, 1s, 1s, 0s};
  auto now = 0ms;
  l.heard(0, now);
  for (; now < 800ms; now += 100ms) BOOST_TEST(l.look(now).empty());
  l.heard(0, now);
  BOOST_TEST((l.deadline(0) == 3200ms));
  for (const auto end = now + 60s; now < end; now += 100ms) {
    l.heard(0, now);
    BOOST_TEST(l.look(now).empty());
  }
  BOOST_TEST((l.deadline(0) > 1500ms && l.deadline(0) < 1700ms));
  for (const auto end = now + 60s; now < end; now += 100ms) {
    l.heard(0, now);
    BOOST_TEST(l.look(now).empty());
  }
  BOOST_TEST((l.deadline(0) == 1s));
}

// The first sign of life comes when it comes, and a watcher that stood still learns nothing from it.
BOOST_AUTO_TEST_CASE(neither_the_start_nor_its_own_sleep_is_a_gap) {
  act::liveness l{1, 1s, 15s, 0s};
  auto now = 0ms;
  for (; now < 9s; now += 100ms) BOOST_TEST(l.look(now).empty());
  l.heard(0, now);
  BOOST_TEST((l.deadline(0) == 1s));
  now += 30s;
  l.heard(0, now);
  BOOST_TEST((l.deadline(0) == 1s));
}

BOOST_AUTO_TEST_CASE(finds_the_slow_rank_by_its_share) {
  act::stragglers s{4, 3.0};
  s.set_shares({1, 2, 1, 0});  // the second has twice the layers, the fourth none
  std::vector<act::stragglers::finding> all;
  for (int interval = 1; interval <= 10; ++interval) {
    const auto steps = static_cast<std::uint64_t>(interval) * 100;
    // From the fifth on the third takes four times as long as the first.
    const std::int64_t slow = interval <= 4 ? 0 : (interval - 4) * 300'000;
    s.heard(0, steps, interval * 100'000);
    s.heard(1, steps, interval * 200'000);
    s.heard(2, steps, interval * 100'000 + slow);
    s.heard(3, 0, 0);
    for (const auto& f : s.look()) {
      all.push_back(f);
      BOOST_TEST(interval == 7);  // three intervals in a row, told once
    }
  }
  BOOST_REQUIRE(all.size() == 1U);
  BOOST_TEST(all[0].rank == 2U);
  BOOST_TEST(all[0].times == 4.0, boost::test_tools::tolerance(1e-9));
}

// Two pipelines of two: the second one's steps are ten times as large, and within it one rank is slow.
BOOST_AUTO_TEST_CASE(ranks_are_compared_with_those_of_their_pipeline) {
  act::stragglers s{4, 3.0};
  s.set_shares({1, 1, 1, 1}, {0, 0, 1, 1});
  std::vector<act::stragglers::finding> all;
  for (int interval = 1; interval <= 5; ++interval) {
    const auto steps = static_cast<std::uint64_t>(interval) * 100;
    s.heard(0, steps, interval * 100'000);
    s.heard(1, steps, interval * 100'000);
    s.heard(2, steps, interval * 1'000'000);
    s.heard(3, steps, interval * 5'000'000);
    for (const auto& f : s.look()) all.push_back(f);
  }
  BOOST_REQUIRE(all.size() == 1U);
  BOOST_TEST(all[0].rank == 3U);
}

BOOST_AUTO_TEST_CASE(a_short_delay_is_no_straggler) {
  act::stragglers s{2, 3.0};
  s.set_shares({1, 1});
  std::int64_t spent = 0;
  for (int interval = 1; interval <= 20; ++interval) {
    const auto steps = static_cast<std::uint64_t>(interval) * 100;
    spent += interval % 3 == 0 ? 100'000 : 900'000;
    s.heard(0, steps, interval * 100'000);
    s.heard(1, steps, spent);
    BOOST_TEST(s.look().empty());
  }
}

BOOST_AUTO_TEST_CASE(knows_when_most_were_heard) {
  act::liveness l{5, 1s, 10s, 0s};
  l.forget(0);
  BOOST_TEST((l.most_heard(0s) == 0s));
  l.heard(1, 5s);
  BOOST_TEST((l.most_heard(5s) == 0s));  // one of four
  l.heard(2, 3s);
  BOOST_TEST((l.most_heard(5s) == 3s));
  l.heard(3, 4s);
  BOOST_TEST((l.most_heard(5s) == 4s));
  l.forget(2);
  l.forget(4);
  BOOST_TEST((l.most_heard(5s) == 5s));  // one of two
  l.forget(1);
  BOOST_TEST((l.most_heard(6s) == 4s));
  l.forget(3);
  BOOST_TEST((l.most_heard(6s) == 6s));  // nobody is left to agree on anything
}

BOOST_AUTO_TEST_CASE(finds_out_that_mpi_does_not_return) {
  act::stuck_watch w{100ms, 10s};
  const auto looks = [&](std::chrono::nanoseconds from, std::chrono::nanoseconds step, auto stalled) {
    bool found = false;
    for (int i = 0; i < 20; ++i) found |= w.look(from + i * step, stalled);
    return found;
  };
  BOOST_TEST(!looks(100s, 100ms, 9s));
  BOOST_TEST(looks(200s, 100ms, 11s));
  BOOST_TEST(!looks(300s, 1s, 11s));  // the process itself hardly runs
  // It was suspended for a minute: at first its own looks are late, then MPI is back.
  BOOST_TEST(!w.look(400s, 60s));
  BOOST_TEST(!w.look(400100ms, 60s));
  BOOST_TEST(!looks(400200ms, 100ms, 0s));
}

BOOST_AUTO_TEST_SUITE_END()
