#include "model/sampler.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "kernels/token_weight.hpp"
#include "model/every_width.hpp"
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
  const auto total = softmax_weights(scratch.weights, scratch.sums, logits, max, 1.0F);
  const double log_total = std::log(static_cast<double>(total) / kernels::full_weight);
  const auto logprob = [&](float logit) { return static_cast<float>((double{logit} - max) - log_total); };
  out.logprob = logprob(logits[static_cast<std::size_t>(out.token)]);
  select_top(logits, static_cast<std::size_t>(wanted), scratch.candidates);
  for (const auto& c : scratch.candidates) out.top.push_back({c.token, logprob(c.score)});
}

/// First index at which the running sum of weights exceeds `target`, by partial sums of blocks.
std::size_t walk(std::span<const std::uint32_t> weights, std::span<const std::uint64_t> sums,
                 std::uint64_t target) {
  std::size_t block = 0;
  while (target >= sums[block]) target -= sums[block++];
  auto i = block * softmax_block;
  while (target >= weights[i]) target -= weights[i++];
  return i;
}

/// With top-k: the few that it leaves are sorted and walked.
std::int32_t draw_of_top_k(std::span<const float> scores, const peak& top, const sampling_params& p,
                           double uniform, sampler_scratch& scratch) {
  auto& kept = scratch.candidates;
  select_top(scores, static_cast<std::size_t>(p.top_k), kept);
  const auto weight = [&](const candidate& c) {
    return kernels::token_weight(c.score, top.score, p.temperature);
  };
  const auto sum = [&] {
    std::uint64_t total = 0;
    for (const auto& c : kept) total += weight(c);
    return total;
  };
  const auto beyond = [&](std::uint64_t target) {
    std::size_t i = 0;
    for (std::uint32_t w = 0; target >= (w = weight(kept[i])); ++i) target -= w;
    return i;
  };
  if (p.top_p < 1.0F) kept.resize(beyond(kernels::top_p_target(p.top_p, sum())) + 1);
  const auto least = kernels::least_weight(p.min_p);
  std::erase_if(kept, [&](const candidate& c) { return weight(c) < least; });
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.token < b.token; });
  return kept[beyond(kernels::draw_target(uniform, sum()))].token;
}

std::int32_t draw(std::span<const float> scores, const peak& top, const sampling_params& p, double uniform,
                  sampler_scratch& scratch) {
  if (p.top_k > 0 && static_cast<std::size_t>(p.top_k) < scores.size())
    return draw_of_top_k(scores, top, p, uniform, scratch);
  auto& weights = scratch.weights;
  auto total = softmax_weights(weights, scratch.sums, scores, top.score, p.temperature);
  kernels::token_cut cut;
  if (p.top_p < 1.0F) cut = find_cut(scores, weights, kernels::top_p_target(p.top_p, total));
  if (p.top_p < 1.0F || p.min_p > 0.0F)
    total = cut_weights(weights, scratch.sums, scores, cut, kernels::least_weight(p.min_p));
  return static_cast<std::int32_t>(walk(weights, scratch.sums, kernels::draw_target(uniform, total)));
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
