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

// One copy of a loop for each vector width, chosen when the program starts. Only for what gives the same bits
// on every one of them.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FASTSERVE_EVERY_WIDTH __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FASTSERVE_EVERY_WIDTH
#endif

/// The largest of a block's values that are neither NaN nor +inf; `odd` is set when there are others.
FASTSERVE_EVERY_WIDTH float block_peak(std::span<const float> block, std::int32_t& odd) {
  constexpr std::size_t lanes = 16;  // independent maxima, of which the compiler makes vector code
  constexpr float largest = std::numeric_limits<float>::max();
  float best[lanes];
  std::int32_t bad[lanes] = {};
  std::fill(best, best + lanes, minus_infinity);
  const auto look = [&](float x, std::size_t lane) {
    bad[lane] |= x <= largest ? 0 : 1;
    const float usable = x <= largest ? x : minus_infinity;
    best[lane] = usable > best[lane] ? usable : best[lane];
  };
  std::size_t i = 0;
  for (; i + lanes <= block.size(); i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) look(block[i + lane], lane);
  for (; i < block.size(); ++i) look(block[i], i % lanes);
  for (const auto b : bad) odd |= b;
  return *std::max_element(best, best + lanes);
}

peak find_peak(std::span<const float> scores) {
  constexpr std::size_t block_size = 1024;
  peak out;
  std::int32_t odd = 0;
  std::span<const float> home;
  for (std::size_t begin = 0; begin < scores.size(); begin += block_size) {
    const auto block = scores.subspan(begin, std::min(block_size, scores.size() - begin));
    const float best = block_peak(block, odd);
    if (best > out.score) {
      out.score = best;
      home = block;
    }
  }
  out.clean = odd == 0 && !home.empty();
  if (!home.empty())
    out.token = static_cast<std::int32_t>(std::find(home.begin(), home.end(), out.score) - home.begin() +
                                          (home.data() - scores.data()));
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

/// With top-k: the few that it leaves are sorted and walked. `scores` rank them.
std::int32_t draw_of_top_k(std::span<const float> scores, const sampling_params& p, double uniform,
                           sampler_scratch& scratch) {
  auto& kept = scratch.candidates;
  select_top(scores, static_cast<std::size_t>(p.top_k), kept);
  double total = 0.0;
  for (auto& c : kept) {
    c.score = scratch.weights[static_cast<std::size_t>(c.token)];
    total += c.score;
  }
  double sum = 0.0;
  std::size_t count = 0;
  while (count < kept.size() && (count == 0 || sum < p.top_p * total)) sum += kept[count++].score;
  kept.resize(count);
  // the likeliest weighs 1, so min_p itself is the bound
  std::erase_if(kept, [&](const candidate& c) { return c.score < p.min_p || c.score == 0.0F; });

  sum = 0.0;
  for (const auto& c : kept) sum += c.score;
  double target = uniform * sum;
  for (const auto& c : kept) {
    if (target < c.score) return c.token;
    target -= c.score;
  }
  return kept.back().token;
}

/// Without top-k a cut is a bar: weights below it become 0, the rest is walked as it lies.
double cut_by_bar(const sampling_params& p, double total, sampler_scratch& scratch) {
  weight_bar cut{p.min_p, std::numeric_limits<double>::infinity()};
  if (p.top_p < 1.0F) {
    const auto by_sum = find_bar(scratch.weights, p.top_p * total);
    if (by_sum.bar >= cut.bar) cut = by_sum;
  }
  double rest = cut.rest;
  for (auto& w : scratch.weights) {
    if (w > cut.bar) continue;
    // of equals the lower ids, until they make up what is missing
    if (w == cut.bar && rest > 0.0) {
      rest -= w;
    } else {
      w = 0.0F;
    }
  }
  return block_sums(scratch.sums, scratch.weights);
}

std::int32_t draw(std::span<const float> scores, const peak& top, const sampling_params& p, double uniform,
                  sampler_scratch& scratch) {
  double total = softmax_weights(scratch.weights, scratch.sums, scores, top.score, p.temperature);
  if (p.top_k > 0 && static_cast<std::size_t>(p.top_k) < scores.size())
    return draw_of_top_k(scores, p, uniform, scratch);
  if (p.top_p < 1.0F || p.min_p > 0.0F) total = cut_by_bar(p, total, scratch);
  return static_cast<std::int32_t>(walk(scratch.weights, scratch.sums, uniform * total));
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
