#include "model/sampler.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "model/philox.hpp"
#include "model/softmax.hpp"

namespace fastserve::model {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

bool ahead(const candidate& a, const candidate& b) {
  return a.score != b.score ? a.score > b.score : a.token < b.token;
}

/// Largest finite score and the lowest id that has it.
struct peak {
  float score = minus_infinity;
  std::int32_t token = 0;
  bool clean = true;  ///< no NaN, no +inf, something finite
};

peak find_peak(std::span<const float> scores) {
  constexpr std::size_t lanes = 16;  // independent maxima, of which the compiler makes vector code
  constexpr float largest = std::numeric_limits<float>::max();
  float best[lanes];
  std::int32_t odd[lanes] = {};
  std::fill(best, best + lanes, minus_infinity);
  const auto look = [&](float x, std::size_t lane) {
    odd[lane] |= x <= largest ? 0 : 1;  // NaN or +inf
    best[lane] = x <= largest && x > best[lane] ? x : best[lane];
  };
  std::size_t i = 0;
  for (; i + lanes <= scores.size(); i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) look(scores[i + lane], lane);
  for (; i < scores.size(); ++i) look(scores[i], i % lanes);

  peak out;
  out.score = *std::max_element(best, best + lanes);
  out.clean = out.score > minus_infinity && std::all_of(odd, odd + lanes, [](auto o) { return o == 0; });
  if (out.score > minus_infinity)
    out.token =
        static_cast<std::int32_t>(std::find(scores.begin(), scores.end(), out.score) - scores.begin());
  return out;
}

/// scratch.scores = logits with the penalties. Repetition: positive scores are divided, negative multiplied,
/// over prompt and answer (arXiv 1909.05858, section 4.1). Frequency and presence: score - count * frequency
/// - presence, over the answer (OpenAI's definition).
void penalize(std::span<const float> logits, const sampling_params& p, std::span<const std::int32_t> prompt,
              std::span<const std::int32_t> answer, sampler_scratch& scratch) {
  const auto vocab = static_cast<std::int32_t>(logits.size());
  scratch.scores.assign(logits.begin(), logits.end());
  if (scratch.counts.size() < logits.size()) scratch.counts.resize(logits.size());
  scratch.touched.clear();
  // counts: 0 = not seen, 1 = in the prompt only, 1 + n = n times in the answer
  const auto see = [&](std::int32_t token, std::int32_t times) {
    if (token < 0 || token >= vocab) return;
    auto& count = scratch.counts[static_cast<std::size_t>(token)];
    if (count == 0) {
      count = 1;
      scratch.touched.push_back(token);
    }
    count += times;
  };
  for (const auto token : answer) see(token, 1);
  if (p.repetition_penalty != 1.0F)
    for (const auto token : prompt) see(token, 0);

  for (const auto token : scratch.touched) {
    auto& score = scratch.scores[static_cast<std::size_t>(token)];
    auto& count = scratch.counts[static_cast<std::size_t>(token)];
    score = score < 0.0F ? score * p.repetition_penalty : score / p.repetition_penalty;
    if (count > 1) score = score - static_cast<float>(count - 1) * p.frequency_penalty - p.presence_penalty;
    count = 0;
  }
}

void add_logprobs(sampled_token& out, std::span<const float> logits, float max, std::int32_t wanted,
                  sampler_scratch& scratch) {
  const double total = softmax_weights(scratch.weights, scratch.sums, logits, max, 1.0F);
  const double log_total = std::log(total);
  const auto logprob = [&](float logit) { return static_cast<float>((double{logit} - max) - log_total); };
  out.logprob = logprob(logits[static_cast<std::size_t>(out.token)]);
  select_top(logits, static_cast<std::size_t>(wanted), scratch.candidates);
  for (const auto& c : scratch.candidates) out.top.push_back({c.token, logprob(c.score)});
}

/// First index at which the running sum of weights exceeds `target`, by partial sums of blocks.
std::size_t walk(std::span<const float> weights, std::span<const double> sums, double target) {
  std::size_t block = 0;
  while (block + 1 < sums.size() && target >= sums[block]) target -= sums[block++];
  const auto begin = block * softmax_block;
  const auto end = std::min(begin + softmax_block, weights.size());
  for (auto i = begin; i < end; ++i) {
    if (target < weights[i]) return i;
    target -= weights[i];
  }
  // rounding took us past the end: the last possible token before it
  auto i = end;
  while (i > 0 && !(weights[i - 1] > 0.0F)) --i;
  return i > 0 ? i - 1 : 0;
}

/// Whether candidates, best first, already hold `top_p` of `total`; cuts what comes after.
bool cut_top_p(std::vector<candidate>& candidates, float top_p, double total) {
  double sum = 0.0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    sum += candidates[i].score;
    if (sum >= top_p * total) {
      candidates.resize(i + 1);
      return true;
    }
  }
  return false;
}

/// The best `k` tokens by score; `score` then holds the weight.
void select_weights(std::span<const float> scores, std::size_t k, sampler_scratch& scratch) {
  select_top(scores, k, scratch.candidates);
  for (auto& c : scratch.candidates) c.score = scratch.weights[static_cast<std::size_t>(c.token)];
}

/// The cuts, on weights whose largest is 1. Leaves the kept tokens and their weights in scratch.candidates.
void cut(std::span<const float> scores, const sampling_params& p, double total, sampler_scratch& scratch) {
  auto& kept = scratch.candidates;
  const auto vocab = scores.size();
  if (p.top_k > 0 && static_cast<std::size_t>(p.top_k) < vocab) {
    select_weights(scores, static_cast<std::size_t>(p.top_k), scratch);
    if (p.top_p < 1.0F) {
      double sum = 0.0;
      for (const auto& c : kept) sum += c.score;
      cut_top_p(kept, p.top_p, sum);
    }
  } else if (p.top_p < 1.0F) {
    // likely a few dozen tokens: look at more only when they do not suffice
    for (std::size_t k = 64;; k *= 8) {
      select_weights(scores, std::min(k, vocab), scratch);
      if (cut_top_p(kept, p.top_p, total) || k >= vocab) break;
    }
  } else {
    kept.clear();
    for (std::size_t i = 0; i < vocab; ++i)
      if (scratch.weights[i] >= p.min_p) kept.push_back({scratch.weights[i], static_cast<std::int32_t>(i)});
  }
  // the likeliest weighs 1, so min_p itself is the bound
  std::erase_if(kept, [&](const candidate& c) { return c.score < p.min_p || c.score == 0.0F; });
}

std::int32_t draw(std::span<const float> scores, const peak& top, const sampling_params& p, double uniform,
                  sampler_scratch& scratch) {
  const double total = softmax_weights(scratch.weights, scratch.sums, scores, top.score, p.temperature);
  const bool all = p.top_p >= 1.0F && p.min_p <= 0.0F &&
                   (p.top_k == 0 || static_cast<std::size_t>(p.top_k) >= scores.size());
  if (all) return static_cast<std::int32_t>(walk(scratch.weights, scratch.sums, uniform * total));

  cut(scores, p, total, scratch);
  assert(!scratch.candidates.empty());
  double sum = 0.0;
  for (const auto& c : scratch.candidates) sum += c.score;
  double target = uniform * sum;
  for (const auto& c : scratch.candidates) {
    if (target < c.score) return c.token;
    target -= c.score;
  }
  return scratch.candidates.back().token;
}

}  // namespace

void select_top(std::span<const float> scores, std::size_t k, std::vector<candidate>& out) {
  out.clear();
  k = std::min(k, scores.size());
  if (k == 0) return;
  // Collect what beats the worst of the best k so far; thin out when twice that many have come together. Ids
  // ascend, so a later equal never beats an earlier one, and one comparison a token is all that most cost.
  const auto room = std::max<std::size_t>(2 * k, 64);
  const auto thin = [&] {
    std::nth_element(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(k) - 1, out.end(), ahead);
    out.resize(k);
    return out.back().score;
  };
  bool full = false;
  float bar = minus_infinity;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (full && !(scores[i] > bar)) continue;
    out.push_back({scores[i], static_cast<std::int32_t>(i)});
    if (out.size() == room) {
      bar = thin();
      full = true;
    }
  }
  if (out.size() > k) thin();
  std::sort(out.begin(), out.end(), ahead);
}

sampled_token sample(std::span<const float> logits, const sampling_params& params, std::uint64_t position,
                     std::span<const std::int32_t> prompt, std::span<const std::int32_t> answer,
                     sampler_scratch& scratch) {
  assert(!logits.empty() && params.validate().empty());
  sampled_token out;
  const auto raw = find_peak(logits);
  out.token = raw.token;
  if (!raw.clean) {
    out.valid = false;
    return out;
  }
  scratch.weights.resize(logits.size());
  scratch.sums.resize((logits.size() + softmax_block - 1) / softmax_block);

  auto scores = logits;
  auto top = raw;
  if (params.penalizes()) {
    penalize(logits, params, prompt, answer, scratch);
    scores = scratch.scores;
    top = find_peak(scores);
    if (!top.clean) {  // finite logits may overflow under a large penalty
      out.valid = false;
      return out;
    }
  }
  out.token = params.temperature == 0.0F
                  ? top.token
                  : draw(scores, top, params, uniform_at(params.seed, position), scratch);
  if (params.logprobs > 0) add_logprobs(out, logits, raw.score, params.logprobs, scratch);
  return out;
}

}  // namespace fastserve::model
