#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "kernels/token_weight.hpp"
#include "model/philox.hpp"
#include "model/sampler.hpp"
#include "model/softmax.hpp"

namespace fastserve::model::test {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

using ids = std::vector<std::int32_t>;

sampled_token draw(const std::vector<float>& logits, const sampling_params& p, std::uint64_t position = 0,
                   const ids& prompt = {}, const ids& answer = {}) {
  static sampler_scratch scratch;
  return sample(logits, p, position, prompt, answer, scratch);
}

std::vector<float> random_logits(std::mt19937& random, std::size_t count, float spread) {
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> out(count);
  for (auto& x : out) x = normal(random);
  return out;
}

/// The distribution that sample() must draw from, the slow and obvious way: everything sorted, in double.
std::vector<double> naive(std::vector<float> logits, const sampling_params& p, const ids& prompt = {},
                          const ids& answer = {}) {
  const auto vocab = logits.size();
  std::map<std::int32_t, int> in_answer, in_any;
  for (const auto t : answer) ++in_answer[t], ++in_any[t];
  for (const auto t : prompt) ++in_any[t];
  for (const auto& [t, n] : in_any) {
    auto& x = logits[static_cast<std::size_t>(t)];
    x = x < 0 ? x * p.repetition_penalty : x / p.repetition_penalty;
  }
  for (const auto& [t, n] : in_answer)
    logits[static_cast<std::size_t>(t)] -= static_cast<float>(n) * p.frequency_penalty + p.presence_penalty;

  std::vector<std::size_t> order(vocab);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
  if (p.top_k > 0) order.resize(std::min(vocab, static_cast<std::size_t>(p.top_k)));
  const double max = logits[order[0]];
  const auto weight = [&](std::size_t i) { return std::exp((logits[i] - max) / p.temperature); };
  double total = 0;
  for (const auto i : order) total += weight(i);
  double sum = 0;
  std::size_t kept = 0;
  while (kept < order.size() && (kept == 0 || sum < p.top_p * total)) sum += weight(order[kept++]);
  order.resize(kept);
  std::erase_if(order, [&](auto i) { return weight(i) < p.min_p; });
  total = 0;
  for (const auto i : order) total += weight(i);
  std::vector<double> out(vocab, 0.0);
  for (const auto i : order) out[i] = weight(i) / total;
  return out;
}

/// Pearson's chi-square of `draws` at consecutive positions against the exact distribution; classes expected
/// fewer than 10 times are pooled. A draw of an impossible token fails at once.
void check_distribution(const std::vector<float>& logits, const sampling_params& p, int draws,
                        const ids& prompt = {}, const ids& answer = {}) {
  const auto want = naive(logits, p, prompt, answer);
  std::vector<int> seen(logits.size(), 0);
  for (int i = 0; i < draws; ++i) {
    const auto token = draw(logits, p, static_cast<std::uint64_t>(i), prompt, answer).token;
    BOOST_REQUIRE(token >= 0 && token < static_cast<std::int32_t>(logits.size()));
    BOOST_REQUIRE_MESSAGE(want[static_cast<std::size_t>(token)] > 0.0,
                          "token " << token << " is cut, but was drawn");
    ++seen[static_cast<std::size_t>(token)];
  }
  double chi = 0, pooled_want = 0, pooled_seen = 0;
  int classes = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double expected = want[i] * draws;
    if (expected < 10.0) {
      pooled_want += expected;
      pooled_seen += seen[i];
    } else {
      chi += (seen[i] - expected) * (seen[i] - expected) / expected;
      ++classes;
    }
  }
  if (pooled_want >= 5.0) {
    chi += (pooled_seen - pooled_want) * (pooled_seen - pooled_want) / pooled_want;
    ++classes;
  }
  // the mean is classes - 1, the standard deviation sqrt of twice that; 4.5 of them is one in a hundred
  // thousand
  const double freedom = std::max(1, classes - 1);
  BOOST_CHECK_LE(chi, freedom + 4.5 * std::sqrt(2.0 * freedom) + 4.0);
}

}  // namespace

BOOST_AUTO_TEST_CASE(philox_known_answers) {
  // Random123's kat_vectors: philox4x32, 10 rounds
  using block = std::array<std::uint32_t, 4>;
  BOOST_CHECK((philox({0, 0, 0, 0}, {0, 0}) == block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  BOOST_CHECK((philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
               block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  BOOST_CHECK((philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
               block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

BOOST_AUTO_TEST_CASE(uniform_numbers) {
  constexpr int count = 100000;
  double sum = 0, squares = 0, product = 0, last = 0;
  for (int i = 0; i < count; ++i) {
    const double u = uniform_at(42, static_cast<std::uint64_t>(i));
    BOOST_REQUIRE(u >= 0.0 && u < 1.0);
    sum += u;
    squares += u * u;
    product += u * last;
    last = u;
  }
  BOOST_CHECK_SMALL(sum / count - 0.5, 0.004);
  BOOST_CHECK_SMALL(squares / count - 1.0 / 3, 0.004);
  BOOST_CHECK_SMALL(product / count - 0.25, 0.004);
  BOOST_CHECK_NE(uniform_at(1, 0), uniform_at(2, 0));
  BOOST_CHECK_NE(uniform_at(1, 0), uniform_at(1, std::uint64_t{1} << 32U));
  BOOST_CHECK_NE(uniform_at(1, 0), uniform_at(std::uint64_t{1} << 32U | 1U, 0));
}

BOOST_AUTO_TEST_CASE(exponential) {
  using kernels::fixed_exp;
  BOOST_CHECK_EQUAL(fixed_exp(0.0F), 1.0F);
  BOOST_CHECK_EQUAL(fixed_exp(-inf), 0.0F);
  BOOST_CHECK_EQUAL(fixed_exp(-1e30F), 0.0F);
  for (float x = 0.0F; x > -87.0F; x -= 0.00317F) {
    const double want = std::exp(double{x});
    BOOST_REQUIRE_LE(std::abs(fixed_exp(x) - want), 3e-7 * want);
  }
}

BOOST_AUTO_TEST_CASE(weights_and_targets) {
  using namespace kernels;
  BOOST_CHECK_EQUAL(token_weight(3.0F, 3.0F, 0.7F), full_weight);
  BOOST_CHECK_EQUAL(token_weight(-inf, 3.0F, 0.7F), 0U);
  for (const float t : {1e-44F, 1e-3F, 0.7F, 1.0F, 50.0F, 1e38F}) {
    BOOST_CHECK_EQUAL(token_weight(5.0F, 5.0F, t), full_weight);
    if (const float below = 5.0F - weightless * t; below > -inf)
      BOOST_CHECK_EQUAL(token_weight(std::nextafter(below, -inf), 5.0F, t), 0U);
  }
  BOOST_CHECK_EQUAL(least_weight(0.0F), 0U);
  BOOST_CHECK_EQUAL(least_weight(1.0F), full_weight);
  BOOST_CHECK_EQUAL(least_weight(1e-30F), 1U);
  BOOST_CHECK_EQUAL(top_p_target(1e-30F, 7), 0U);
  BOOST_CHECK_EQUAL(top_p_target(0.5F, 8), 3U);  // a sum of 4 is enough
  BOOST_CHECK_EQUAL(top_p_target(0.5F, 9), 4U);  // one of 5
  BOOST_CHECK_EQUAL(draw_target(0.0, 9), 0U);
  for (std::uint64_t total = 1; total < std::uint64_t{1} << 52U; total = total * 3 + 1)
    BOOST_REQUIRE_LT(draw_target(1.0 - 0x1p-53, total), total);
  const float rising[] = {-inf, -3e38F, -2.0F, -1e-45F, 0.0F, 1e-45F, 2.0F, 3e38F};
  for (std::size_t i = 0; i + 1 < std::size(rising); ++i) {
    BOOST_CHECK_LT(score_rank(rising[i]), score_rank(rising[i + 1]));
    BOOST_CHECK_EQUAL(ranked_score(score_rank(rising[i])), rising[i]);
  }
  BOOST_CHECK_EQUAL(score_rank(-0.0F), score_rank(0.0F));
}

BOOST_AUTO_TEST_CASE(greedy) {
  BOOST_CHECK_EQUAL(draw({1, 5, 5, 2}, {.temperature = 0}).token, 1);
  BOOST_CHECK_EQUAL(draw({-3}, {.temperature = 0}).token, 0);
  BOOST_CHECK_EQUAL(draw({-inf, -2, -inf}, {.temperature = 0}).token, 1);
  BOOST_CHECK_EQUAL(draw({-0.0F, 0.0F}, {.temperature = 0}).token, 0);
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    auto logits = random_logits(random, 1 + random() % 700, 3);
    for (auto& x : logits) x = std::round(x);  // many equals
    const auto want = std::max_element(logits.begin(), logits.end()) - logits.begin();
    BOOST_CHECK_EQUAL(draw(logits, {.temperature = 0, .top_k = 5, .top_p = 0.5F}).token, want);
  }
}

BOOST_AUTO_TEST_CASE(unusable_logits) {
  for (const float t : {0.0F, 1.0F}) {
    for (const auto& logits : std::vector<std::vector<float>>{
             {1, nan, 3}, {1, 2, inf}, {nan}, {inf}, {-inf, -inf}, {nan, nan, nan}, {nan, -inf}}) {
      const auto r = draw(logits, {.temperature = t, .logprobs = 2});
      BOOST_CHECK(!r.valid);
      BOOST_CHECK(r.token >= 0 && r.token < static_cast<std::int32_t>(logits.size()));
      BOOST_CHECK(r.top.empty());
    }
    BOOST_CHECK_EQUAL(draw({1, nan, 3, 3}, {.temperature = t}).token, 2);
    BOOST_CHECK(draw({1, -inf, 3}, {.temperature = t}).valid);
    // long rows: a bad value in any place is seen
    for (const std::size_t at : {0, 15, 16, 100, 998, 999}) {
      std::vector<float> logits(1000, 0.5F);
      logits[at] = nan;
      BOOST_CHECK(!draw(logits, {.temperature = t}).valid);
    }
  }
  // a penalty that makes infinity of a finite score
  const auto r =
      draw({std::numeric_limits<float>::max(), 0}, {.temperature = 0, .repetition_penalty = 1e-3F}, 0, {0});
  BOOST_CHECK(!r.valid);
}

BOOST_AUTO_TEST_CASE(plain_distribution) {
  std::mt19937 random(2);
  for (const std::size_t vocab : {2, 3, 50, 1000}) {
    const auto logits = random_logits(random, vocab, 1.5F);
    for (const float t : {0.3F, 1.0F, 2.0F}) check_distribution(logits, {.temperature = t, .seed = 3}, 12000);
  }
  check_distribution({0, -inf, 1, -inf}, {.seed = 4}, 10000);
  check_distribution(std::vector<float>(600, 2.0F), {.seed = 5}, 20000);
}

BOOST_AUTO_TEST_CASE(cut_distributions) {
  std::mt19937 random(6);
  for (const std::size_t vocab : {5, 300, 2000}) {
    const auto logits = random_logits(random, vocab, 2.0F);
    for (const auto& p : {
             sampling_params{.top_k = 1, .seed = 1},
             sampling_params{.top_k = 4, .seed = 2},
             sampling_params{.temperature = 1.7F, .top_k = 40, .seed = 3},
             sampling_params{.top_k = 1 << 30, .seed = 4},
             sampling_params{.top_p = 0.01F, .seed = 5},
             sampling_params{.top_p = 0.6F, .seed = 6},
             sampling_params{.temperature = 1.5F, .top_p = 0.99F, .seed = 7},
             sampling_params{.min_p = 0.05F, .seed = 8},
             sampling_params{.temperature = 0.5F, .min_p = 1.0F, .seed = 9},
             sampling_params{.temperature = 1.2F, .top_k = 20, .top_p = 0.8F, .min_p = 0.1F, .seed = 10},
         })
      check_distribution(logits, p, 6000);
  }
}

BOOST_AUTO_TEST_CASE(cuts_keep_the_same_tokens_as_the_naive_way) {
  // Every token that the naive way keeps must be reachable, and no other: found by the drawn sets of flat
  // weights.
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    auto logits = random_logits(random, 20 + random() % 60, 0.4F);
    sampling_params p;
    p.temperature = 1.0F;
    p.top_k = static_cast<std::int32_t>(random() % 30);
    p.top_p = static_cast<float>(random() % 100 + 1) / 100.0F;
    p.min_p = static_cast<float>(random() % 50) / 100.0F;
    p.seed = static_cast<std::uint64_t>(round);
    const auto want = naive(logits, p);
    std::vector<bool> seen(logits.size());
    for (std::uint64_t i = 0; i < 2000; ++i) seen[static_cast<std::size_t>(draw(logits, p, i).token)] = true;
    for (std::size_t t = 0; t < logits.size(); ++t) {
      if (want[t] == 0.0) BOOST_CHECK(!seen[t]);
      if (want[t] > 5e-3) BOOST_CHECK(seen[t]);
    }
  }
}

BOOST_AUTO_TEST_CASE(top_k_keeps_exactly_k_of_equals) {
  const std::vector<float> logits{1, 2, 2, 2, 2, 0};
  std::vector<int> seen(6);
  for (std::uint64_t i = 0; i < 500; ++i)
    ++seen[static_cast<std::size_t>(draw(logits, {.top_k = 2}, i).token)];
  BOOST_CHECK((seen[1] > 0 && seen[2] > 0 && seen[1] + seen[2] == 500));
}

BOOST_AUTO_TEST_CASE(select_top_is_a_sort) {
  std::mt19937 random(12);
  std::vector<candidate> got;
  for (int round = 0; round < 300; ++round) {
    auto scores = random_logits(random, 1 + random() % 3000, 2.0F);
    if (round % 2 == 0)
      for (auto& x : scores) x = std::round(x);
    if (round % 5 == 0) scores[random() % scores.size()] = -inf;
    if (round % 7 == 0) std::sort(scores.begin(), scores.end());
    const std::size_t k = random() % 200;
    select_top(scores, k, got);
    std::vector<std::int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
      return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
    });
    order.resize(std::min(k, order.size()));
    BOOST_REQUIRE_EQUAL(got.size(), order.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      BOOST_REQUIRE_EQUAL(got[i].token, order[i]);
      BOOST_REQUIRE_EQUAL(got[i].score, scores[static_cast<std::size_t>(order[i])]);
    }
  }
}

BOOST_AUTO_TEST_CASE(find_cut_is_a_sort) {
  std::mt19937 random(20);
  for (int round = 0; round < 400; ++round) {
    const std::size_t count = 1 + random() % 2000;
    std::vector<float> scores(count);
    for (auto& x : scores) {
      x = -static_cast<float>(random() % 1000) * (round % 3 == 0 ? 0.1F : 1e-5F);
      if (round % 4 == 1) x = std::round(x) + 0.0F;  // many equals
      if (round % 4 == 2 && random() % 50 == 0) x = -inf;
    }
    scores[random() % count] = round % 5 == 0 ? -0.0F : 0.0F;
    std::vector<std::uint32_t> weights(count);
    std::vector<std::uint64_t> sums((count + softmax_block - 1) / softmax_block);
    const auto total = softmax_weights(weights, sums, scores, 0.0F, 1.0F);
    BOOST_REQUIRE_EQUAL(total, std::accumulate(weights.begin(), weights.end(), std::uint64_t{0}));
    const std::uint64_t target = (random() << 30U | random()) % total;

    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return scores[a] > scores[b]; });
    std::uint64_t sum = 0;
    std::size_t last = 0;
    while ((sum += weights[order[last]]) <= target) ++last;
    const auto got = find_cut(scores, weights, target);
    BOOST_REQUIRE_EQUAL(got.token, static_cast<std::int32_t>(order[last]));
    BOOST_REQUIRE_EQUAL(got.score, scores[order[last]]);
    BOOST_REQUIRE_EQUAL(cut_weights(weights, sums, scores, got, 0), sum);
    BOOST_REQUIRE_EQUAL(std::accumulate(sums.begin(), sums.end(), std::uint64_t{0}), sum);
  }
}

BOOST_AUTO_TEST_CASE(top_p_takes_lower_ids_of_equals) {
  const std::vector<float> logits{0, 3, 3, 3, 3, 3, -5};
  std::vector<int> seen(7);
  for (std::uint64_t i = 0; i < 600; ++i)
    ++seen[static_cast<std::size_t>(draw(logits, {.top_p = 0.5F}, i).token)];
  BOOST_CHECK(seen[1] > 100 && seen[2] > 100 && seen[3] > 100 && seen[1] + seen[2] + seen[3] == 600);
}

BOOST_AUTO_TEST_CASE(penalties) {
  // greedy shows which score won
  const sampling_params greedy{.temperature = 0};
  auto p = greedy;
  p.repetition_penalty = 2.0F;
  BOOST_CHECK_EQUAL(draw({4, 3, 1}, p, 0, {0}).token, 1);      // 4 / 2 < 3, by the prompt
  BOOST_CHECK_EQUAL(draw({4, 3, 1}, p, 0, {}, {0}).token, 1);  // by the answer
  BOOST_CHECK_EQUAL(draw({4, 3, 1}, p, 0, {0, 0}, {0}).token,
                    1);  // once, however often: 4 / 8 would still lose, but
  BOOST_CHECK_EQUAL(draw({4, 1.9F, 1}, p, 0, {0, 0}, {0}).token, 0);  // 4 / 2 wins over 1.9
  BOOST_CHECK_EQUAL(draw({-1, -1.5F}, p, 0, {0}).token, 1);           // -1 * 2
  p = greedy;
  p.presence_penalty = 1.5F;
  BOOST_CHECK_EQUAL(draw({4, 3}, p, 0, {0}).token, 0);  // not over the prompt
  BOOST_CHECK_EQUAL(draw({4, 3}, p, 0, {}, {0}).token, 1);
  BOOST_CHECK_EQUAL(draw({4, 2}, p, 0, {}, {0, 0, 0}).token, 0);  // once
  p = greedy;
  p.frequency_penalty = 0.6F;
  BOOST_CHECK_EQUAL(draw({4, 3}, p, 0, {0, 0}, {0}).token, 0);
  BOOST_CHECK_EQUAL(draw({4, 3}, p, 0, {}, {0, 0}).token, 1);
  p.frequency_penalty = -0.6F;
  BOOST_CHECK_EQUAL(draw({3, 4}, p, 0, {}, {0, 0}).token, 0);
  // ids from elsewhere do no harm
  BOOST_CHECK_EQUAL(draw({4, 3}, p, 0, {-1, 2, 1 << 30}, {-7, 99}).token, 0);

  std::mt19937 random(13);
  const auto logits = random_logits(random, 40, 1.0F);
  sampling_params all{.temperature = 0.9F,
                      .repetition_penalty = 1.3F,
                      .presence_penalty = 0.4F,
                      .frequency_penalty = 0.2F,
                      .seed = 14};
  check_distribution(logits, all, 10000, {1, 2, 3, 3, 39}, {3, 5, 5, 5, 0});
}

BOOST_AUTO_TEST_CASE(log_probabilities) {
  std::mt19937 random(15);
  const auto logits = random_logits(random, 500, 2.0F);
  double total = 0;
  for (const auto x : logits) total += std::exp(double{x});
  const auto want = [&](std::int32_t t) { return logits[static_cast<std::size_t>(t)] - std::log(total); };
  // the raw distribution, whatever is done to the drawing
  const auto r =
      draw(logits, {.temperature = 0.7F, .top_k = 3, .repetition_penalty = 1.5F, .logprobs = 5}, 1, {7}, {9});
  BOOST_CHECK_SMALL(r.logprob - want(r.token), 1e-5);
  BOOST_REQUIRE_EQUAL(r.top.size(), 5U);
  std::vector<candidate> best;
  select_top(logits, 5, best);
  for (std::size_t i = 0; i < 5; ++i) {
    BOOST_CHECK_EQUAL(r.top[i].token, best[i].token);
    BOOST_CHECK_SMALL(r.top[i].logprob - want(best[i].token), 1e-5);
  }
  const auto none = draw(logits, {});
  BOOST_CHECK(none.top.empty() && none.logprob == 0.0F);
  BOOST_CHECK_EQUAL(draw({1, 2}, {.logprobs = 10}).top.size(), 2U);
}

BOOST_AUTO_TEST_CASE(a_pure_function) {
  std::mt19937 random(16);
  const auto logits = random_logits(random, 3000, 2.0F);
  const sampling_params p{.top_p = 0.95F, .repetition_penalty = 1.1F, .seed = 17};
  std::vector<std::int32_t> first;
  for (std::uint64_t i = 0; i < 100; ++i) first.push_back(draw(logits, p, i, {1, 2}, {3}).token);
  // another scratch, another order, other calls between
  sampler_scratch other;
  for (std::uint64_t i = 100; i-- > 0;) {
    sample(random_logits(random, 10 + i * 40, 1.0F), {.top_k = 9, .presence_penalty = 1}, i, ids{1},
           ids{2, 3}, other);
    BOOST_CHECK_EQUAL(sample(logits, p, i, ids{1, 2}, ids{3}, other).token, first[i]);
  }
  auto seeded = p;
  seeded.seed = 18;
  int same = 0;
  for (std::uint64_t i = 0; i < 100; ++i) same += draw(logits, seeded, i, {1, 2}, {3}).token == first[i];
  BOOST_CHECK_LT(same, 50);

  // fixed answers: the same on every machine
  const std::vector<float> few{0.5F, 1.0F, 0.25F, 0.75F, -1.0F, 2.0F};
  std::vector<std::int32_t> got;
  for (std::uint64_t i = 0; i < 16; ++i) got.push_back(draw(few, {.seed = 1234}, i).token);
  const std::vector<std::int32_t> want{5, 1, 5, 1, 5, 1, 5, 3, 1, 0, 5, 1, 5, 5, 1, 0};
  BOOST_CHECK_EQUAL_COLLECTIONS(got.begin(), got.end(), want.begin(), want.end());
}

BOOST_AUTO_TEST_CASE(extreme_settings) {
  std::mt19937 random(19);
  const auto logits = random_logits(random, 1000, 5.0F);
  const auto best = draw(logits, {.temperature = 0}).token;
  for (std::uint64_t i = 0; i < 50; ++i) {
    BOOST_CHECK_EQUAL(draw(logits, {.temperature = 1e-30F}, i).token, best);
    BOOST_CHECK_EQUAL(draw(logits, {.temperature = 1e-44F}, i).token, best);  // not a normal number
    BOOST_CHECK_EQUAL(draw(logits, {.top_k = 1}, i).token, best);
    BOOST_CHECK_EQUAL(draw(logits, {.top_p = 1e-30F}, i).token, best);
    BOOST_CHECK_EQUAL(draw(logits, {.min_p = 1.0F}, i).token, best);
  }
  const std::vector<float> wide{3e38F, -3e38F};
  BOOST_CHECK_EQUAL(draw(wide, {.temperature = 1000.0F}).token, 0);
  BOOST_CHECK_EQUAL(draw({0.0F}, {.top_p = 0.5F}).token, 0);
}

BOOST_AUTO_TEST_CASE(parameters_are_checked) {
  BOOST_CHECK_EQUAL(sampling_params{}.validate(), "");
  const auto bad = [](sampling_params p, std::string_view part) {
    BOOST_CHECK_MESSAGE(p.validate().find(part) == 0, p.validate());
  };
  bad({.temperature = -1}, "temperature is -1, expected");
  bad({.temperature = nan}, "temperature is nan");
  bad({.temperature = inf}, "temperature is inf");
  bad({.top_k = -1}, "top_k is -1");
  bad({.top_p = 0}, "top_p is 0");
  bad({.top_p = 1.5F}, "top_p is 1.5");
  bad({.top_p = nan}, "top_p is nan");
  bad({.min_p = -0.5F}, "min_p is -0.5");
  bad({.min_p = 2}, "min_p is 2");
  bad({.repetition_penalty = 0}, "repetition_penalty is 0");
  bad({.presence_penalty = inf}, "presence_penalty is inf");
  bad({.frequency_penalty = nan}, "frequency_penalty is nan");
  bad({.logprobs = -1}, "logprobs is -1");
}

}  // namespace fastserve::model::test
