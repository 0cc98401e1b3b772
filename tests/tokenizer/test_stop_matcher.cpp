#include "model/tokenizer/stop_matcher.hpp"
#include "support.hpp"

using namespace fastserve::model;
using namespace fastserve::model::test;

namespace {

struct outcome {
  std::string shown;
  std::optional<std::size_t> hit;
};

// The definition, word by word: the stop complete first; of those, the longest; of equal ones, the first.
outcome search(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::optional<std::size_t> hit;
    for (std::size_t i = 0; i < stops.size(); ++i) {
      if (stops[i].empty() || !std::string_view(text).substr(0, end).ends_with(stops[i])) continue;
      if (!hit || stops[i].size() > stops[*hit].size()) hit = i;
    }
    if (hit) return {text.substr(0, end - stops[*hit].size()), hit};
  }
  return {text, std::nullopt};
}

// The longest end of a text that may be the start of a stop.
std::size_t must_hold(const std::string& text, const std::vector<std::string>& stops) {
  std::size_t longest = 0;
  for (const std::string& stop : stops) {
    for (std::size_t size = 1; size < stop.size() && size <= text.size(); ++size) {
      if (text.ends_with(stop.substr(0, size))) longest = std::max(longest, size);
    }
  }
  return longest;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stops)

BOOST_AUTO_TEST_CASE(equals_a_search_of_the_whole) {
  dice random(11);
  int hits = 0;
  for (int round = 0; round < 20000; ++round) {
    const auto letters = [&](std::size_t most) {
      std::string out;
      for (std::size_t i = random.below(most + 1); i > 0; --i) out.push_back(random.once_in(3) ? 'b' : 'a');
      return out;
    };
    std::vector<std::string> stops(random.below(4));
    for (std::string& stop : stops) stop = letters(5);
    const std::string text = letters(24);
    const outcome expected = search(text, stops);
    stop_matcher matcher(stops);
    std::string shown;
    for (std::size_t at = 0; at < text.size() && !matcher.stopped();) {
      const std::size_t size = std::min(text.size() - at, random.below(4));
      shown += matcher.push(text.substr(at, size));
      at += size;
      // Nothing is held that could be shown.
      if (!matcher.stopped()) BOOST_TEST(shown.size() == at - must_hold(text.substr(0, at), stops));
    }
    BOOST_TEST(matcher.push("").empty());
    if (!matcher.stopped()) shown += matcher.flush();
    BOOST_TEST(shown == expected.shown);
    BOOST_TEST((matcher.hit() == expected.hit));
    hits += matcher.stopped() ? 1 : 0;
  }
  BOOST_TEST(hits > 5000);
  BOOST_TEST(hits < 19000);
}

BOOST_AUTO_TEST_CASE(nothing_follows_a_stop) {
  stop_matcher matcher({"\n\n", "END"});
  BOOST_TEST(matcher.push("one\n") == "one");
  BOOST_TEST(matcher.push("two E") == "\ntwo ");
  BOOST_TEST(matcher.push("N") == "");
  BOOST_TEST(matcher.push("D. more") == "");
  BOOST_TEST(matcher.hit().value() == 1u);
  BOOST_TEST(matcher.push("more") == "");
  BOOST_TEST(matcher.flush() == "");
}

BOOST_AUTO_TEST_CASE(without_stops_all_passes_at_once) {
  stop_matcher matcher({});
  BOOST_TEST(matcher.push("text") == "text");
  BOOST_TEST(matcher.flush() == "");
}

BOOST_AUTO_TEST_SUITE_END()
