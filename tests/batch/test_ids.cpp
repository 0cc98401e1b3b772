#include <boost/test/unit_test.hpp>
#include <random>
#include <set>
#include <string>
#include <unordered_set>

#include "../support/temporary_folder.hpp"
#include "launch/batch_id_set.hpp"
#include "launch/batch_journal.hpp"

using namespace fastserve::launch;

BOOST_AUTO_TEST_SUITE(ids_suite)

BOOST_AUTO_TEST_CASE(digests_tell_ids_apart) {
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
  std::unordered_set<std::uint64_t> low, high;
  const auto take = [&](const std::string& id) {
    const auto d = digest_of(id);
    BOOST_TEST(seen.emplace(d.low, d.high).second);
    low.insert(d.low);
    high.insert(d.high);
  };
  for (int i = 0; i < 100'000; ++i) take("request-" + std::to_string(i));
  for (std::size_t zeros = 0; zeros < 40; ++zeros) take(std::string(zeros, '\0'));
  // Each half alone is as good as a hash of 64 bits.
  BOOST_TEST(low.size() == seen.size());
  BOOST_TEST(high.size() == seen.size());
  BOOST_TEST((digest_of("a") == digest_of("a")));
}

BOOST_AUTO_TEST_CASE(the_set_agrees_with_a_plain_one) {
  std::mt19937 random{3};
  batch_id_set ids;
  std::set<std::string> plain;
  for (int i = 0; i < 200'000; ++i) {
    const auto id = std::to_string(random() % 60'000);
    BOOST_REQUIRE(ids.contains(digest_of(id)) == plain.contains(id));
    BOOST_REQUIRE(ids.add(digest_of(id)) == plain.insert(id).second);
  }
  BOOST_TEST(ids.size() == plain.size());
}

BOOST_AUTO_TEST_CASE(the_first_line_keeps_an_id) {
  batch_ids ids{batch_id_set{}};
  const auto claim = [&](std::string id, std::uint64_t line, batch_ids::verdict wanted) {
    BOOST_TEST((ids.claim(id, line) == wanted));
    return id;
  };
  using enum batch_ids::verdict;
  BOOST_TEST(claim("a", 1, first) == "a");
  BOOST_TEST(claim("a", 2, repeated) == "line-2");
  BOOST_TEST(claim("line-4", 3, first) == "line-4");
  BOOST_TEST(claim("line-4", 4, first) == "line-4+");  // has none of its own, and someone took its place
  BOOST_TEST(claim("line-4+", 5, repeated) == "line-5");
}

BOOST_AUTO_TEST_CASE(the_journal_remembers_ids) {
  const temporary_folder folder;
  const batch_identity identity{{"input", "x"}};
  {
    batch_journal journal{folder / "out", identity, 0, false};
    journal.append({0, {1, 10}, 10, batch_journal::kind::answer, digest_of("a")}, "{}");
    journal.commit();
    journal.append({1, {2, 20}, 10, batch_journal::kind::answer, digest_of("b")}, "{}");  // lost
  }
  batch_journal journal{folder / "out", identity, 0, false};
  batch_ids ids{journal.take_ids()};
  std::string a = "a", b = "b";
  BOOST_TEST((ids.claim(a, 3) == batch_ids::verdict::repeated));
  BOOST_TEST((ids.claim(b, 2) == batch_ids::verdict::first));
}

BOOST_AUTO_TEST_SUITE_END()
