#include <boost/test/unit_test.hpp>
#include <map>
#include <random>
#include <vector>

#include "actors/journal_feed.hpp"
#include "actors/journal_replica.hpp"

namespace act = fastserve::actors;
namespace mod = fastserve::model;

namespace {

mod::sampled_token token(std::int32_t id) { return {id, -0.25F, {{id, -0.25F}}, true}; }

act::journal_part part(std::uint64_t number, bool anew, std::vector<act::journal_entry> entries = {},
                       std::vector<std::uint64_t> closed = {}, std::int32_t leader = 0) {
  return {leader, number, anew, std::move(entries), std::move(closed)};
}

using truth = std::map<std::uint64_t, std::map<std::int32_t, std::vector<std::int32_t>>>;

truth content(act::known_answers known) {
  truth out;
  for (auto& [request, choices] : known)
    for (std::size_t c = 0; c < choices.size(); ++c)
      if (!choices[c].tokens.empty()) out[request][static_cast<std::int32_t>(c)] = choices[c].tokens;
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(journal_replica_suite)

BOOST_AUTO_TEST_CASE(what_is_fed_arrives) {
  act::journal_feed feed{0, 4};
  act::journal_replica replica{1};
  for (int i = 0; i < 5; ++i) feed.add(7, 0, token(i), false);
  feed.add(7, 2, token(50), false);
  feed.add(8, 0, token(60), true);
  BOOST_TEST(feed.waiting() == 7U);
  int parts = 0;
  for (; feed.waiting() > 0; ++parts) {
    const auto p = feed.next();
    BOOST_TEST(p.anew == (parts == 0));
    BOOST_TEST(feed.acknowledged(replica.take(p)));
  }
  BOOST_TEST(parts == 2);  // of four tokens at most
  BOOST_TEST(replica.tokens() == 7U);
  feed.close(7);
  BOOST_TEST(feed.acknowledged(replica.take(feed.next())));
  auto left = replica.hand_over();
  BOOST_REQUIRE(left.size() == 1U);
  BOOST_TEST(left.at(8).at(0).details.at(0).top.at(0).token == 60);
  BOOST_TEST(replica.tokens() == 0U);
}

BOOST_AUTO_TEST_CASE(what_was_never_told_needs_no_closing) {
  act::journal_feed feed{0};
  feed.add(1, 0, token(1), false);
  feed.close(1);
  const auto p = feed.next();
  BOOST_TEST(p.entries.empty());
  BOOST_TEST(p.closed.empty());
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_not_taken) {
  const act::journal_entry five{1, 0, 0, {{1, 2, 3, 4, 5}, {}}};
  const auto refuses = [&](act::journal_part second) {
    act::journal_replica r{1, 8};
    BOOST_TEST(r.take(part(0, true, {five})).taken);
    const auto ack = r.take(second);
    BOOST_TEST(!ack.taken);
    BOOST_TEST(r.tokens() == 0U);
    // And nothing but a new beginning from there on.
    BOOST_TEST(!r.take(part(1, false)).taken);
    BOOST_TEST(!r.take(part(0, false)).taken);
    BOOST_TEST(r.take(part(0, true)).taken);
  };
  refuses(part(2, false));                                            // a gap
  refuses(part(0, false));                                            // a repetition
  refuses(part(1, false, {{1, 0, 4, {{6}, {}}}}));                    // tokens that it has
  refuses(part(1, false, {{1, 0, 6, {{7}, {}}}}));                    // a gap in an answer
  refuses(part(1, false, {{2, 0, 1, {{7}, {}}}}));                    // an answer that begins in its midst
  refuses(part(1, false, {{1, -1, 0, {{7}, {}}}}));                   // no choice
  refuses(part(1, false, {{1, mod::most_choices, 0, {{7}, {}}}}));    // no choice either
  refuses(part(1, false, {{1, 0, -5, {{7}, {}}}}));                   // no place
  refuses(part(1, false, {{1, 0, 5, {{7}, {token(7), token(8)}}}}));  // details of something else
  refuses(part(1, false, {{1, 0, 5, {{7}, {token(7)}}}}));            // details all at once
  refuses(part(1, false, {{1, 0, 5, {{6, 7, 8, 9}, {}}}}));           // more than it keeps
}

BOOST_AUTO_TEST_CASE(an_old_leader_changes_nothing) {
  act::journal_replica r{3};
  BOOST_TEST(r.take(part(0, true, {{1, 0, 0, {{1, 2}, {}}}}, {}, 2)).taken);
  BOOST_TEST(!r.take(part(0, true, {{9, 0, 0, {{1}, {}}}}, {}, 0)).taken);
  BOOST_TEST(r.tokens() == 2U);
  BOOST_TEST(r.take(part(1, false, {{1, 0, 2, {{3}, {}}}}, {}, 2)).taken);
  // A new one begins anew, and only so.
  BOOST_TEST(!r.take(part(2, false, {}, {}, 3)).taken);
  BOOST_TEST(r.tokens() == 0U);
}

// Requests begin, grow and end; parts and acknowledgements get lost, standbys change. What a standby has at
// any moment is a beginning of every answer that is open, or nothing of it.
BOOST_AUTO_TEST_CASE(a_replica_never_has_what_was_not_drawn) {
  std::mt19937 random{11};
  const auto below = [&](int n) { return std::uniform_int_distribution{0, n - 1}(random); };
  for (int round = 0; round < 200; ++round) {
    act::journal_feed feed{2, static_cast<std::size_t>(1 + below(20))};
    act::journal_replica replica{3};
    truth drawn;
    std::uint64_t next = 1;
    for (int i = 0; i < 400; ++i) {
      switch (below(8)) {
        case 0:
          drawn[next++];
          break;
        case 1:
          if (!drawn.empty()) {
            const auto it = std::next(drawn.begin(), below(static_cast<int>(drawn.size())));
            feed.close(it->first);
            drawn.erase(it);
          }
          break;
        case 2: {
          const auto p = feed.next();
          const int fate = below(20);
          if (fate == 0) {  // lost on the way
            feed.begin_anew();
            break;
          }
          const auto ack = replica.take(p);
          BOOST_TEST(ack.taken);
          if (fate == 1) {  // the answer is lost
            feed.begin_anew();
          } else if (fate == 2) {  // another standby
            replica = act::journal_replica{4};
            feed.begin_anew();
          } else {
            BOOST_TEST(feed.acknowledged(ack));
          }
          break;
        }
        default:
          if (!drawn.empty()) {
            const auto it = std::next(drawn.begin(), below(static_cast<int>(drawn.size())));
            const auto choice = below(3);
            const auto id = below(1000);
            it->second[choice].push_back(id);
            feed.add(it->first, choice, token(id), false);
          }
      }
    }
    const auto lag = feed.waiting();
    auto copy = replica;
    const auto has = content(copy.hand_over());
    for (const auto& [request, choices] : drawn)
      if (const auto it = has.find(request); it != has.end())
        for (const auto& [choice, tokens] : it->second) {
          const auto& all = choices.at(choice);
          BOOST_REQUIRE(tokens.size() <= all.size());
          BOOST_TEST(std::equal(tokens.begin(), tokens.end(), all.begin()));
        }
    // Once all is told, it has all of what is open and nothing else.
    BOOST_TEST((lag == 0 || feed.waiting() > 0));
    do {
      BOOST_TEST(feed.acknowledged(replica.take(feed.next())));
    } while (feed.waiting() > 0);
    truth open;
    for (const auto& [request, choices] : drawn)
      for (const auto& [choice, tokens] : choices)
        if (!tokens.empty()) open[request][choice] = tokens;
    BOOST_TEST((content(replica.hand_over()) == open));
  }
}

// Anything at all: it never has more than it may, and after a new beginning it works.
BOOST_AUTO_TEST_CASE(arbitrary_parts) {
  std::mt19937 random{5};
  const auto pick = [&](int from, int to) { return std::uniform_int_distribution{from, to}(random); };
  act::journal_replica replica{1, 1000};
  for (int i = 0; i < 20000; ++i) {
    act::journal_part p;
    p.leader = pick(0, 20) == 0 ? pick(-1, 3) : 3;
    p.number = static_cast<std::uint64_t>(pick(0, 5));
    p.anew = pick(0, 9) == 0;
    for (int e = pick(0, 3); e > 0; --e) {
      act::journal_entry entry;
      entry.request = static_cast<std::uint64_t>(pick(0, 3));
      entry.choice = pick(-1, mod::most_choices);
      entry.from = pick(-1, 4);
      entry.part.tokens.assign(static_cast<std::size_t>(pick(0, 300)), 1);
      if (pick(0, 3) == 0) entry.part.details.assign(static_cast<std::size_t>(pick(0, 2)), token(1));
      p.entries.push_back(entry);
    }
    for (int c = pick(0, 2); c > 0; --c) p.closed.push_back(static_cast<std::uint64_t>(pick(0, 3)));
    replica.take(p);
    BOOST_REQUIRE(replica.tokens() <= 1000U);
  }
  BOOST_TEST(replica.take(part(0, true, {{1, 0, 0, {{1}, {}}}}, {}, 3)).taken);
  BOOST_TEST(replica.tokens() == 1U);
}

BOOST_AUTO_TEST_SUITE_END()
