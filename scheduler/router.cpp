#include "scheduler/router.hpp"

#include <algorithm>

namespace fastserve::scheduler {

namespace {

// Steps of a pipeline from which on its pace says something.
constexpr std::uint64_t least_steps = 16;

// An answer's weight in the mean halves every 700 answers.
constexpr double decay = 0.999;

}  // namespace

router::router(std::size_t pipelines, std::int32_t max_batch, std::int32_t token_budget)
    : paces_(pipelines, 1.0), max_batch_(max_batch), token_budget_(token_budget) {}

// One set of costs for all: what the steps of one pipeline alone have in common can be taken for a cost of
// the step or of its rows alike, and would make pipelines that do the same look unequal.
void router::learn(std::span<const cost_model* const> pipelines) {
  std::vector<const cost_model*> known;
  for (const auto* p : pipelines)
    if (p != nullptr && p->steps() >= least_steps) known.push_back(p);
  if (known.empty()) return;
  cost_model all;
  all.include(known);
  const auto& c = all.costs();
  prefill_cost_ = c.row_ns + c.fixed_ns / token_budget_;
  decode_cost_ = c.row_ns + c.draw_ns + c.fixed_ns / max_batch_;
  for (std::size_t i = 0; i < paces_.size(); ++i) {
    const auto* p = i < pipelines.size() ? pipelines[i] : nullptr;
    const auto times = p != nullptr && p->steps() >= least_steps ? p->times(c) : 0;
    paces_[i] = times > 0 ? times : 1.0;
  }
}

void router::answered(std::int64_t asked, std::int64_t got) {
  asked_ = decay * asked_ + static_cast<double>(asked);
  got_ = decay * got_ + static_cast<double>(got);
}

std::ptrdiff_t router::choose(const request_size& what, std::span<const pipeline_offer> offers) const {
  std::int64_t largest = 0;
  for (const auto& o : offers)
    if (o.open) largest = std::max(largest, o.kv_tokens);
  const auto wanted = std::min(what.longest, largest);
  const double share = asked_ > 0 ? got_ / asked_ : 1.0;
  std::ptrdiff_t best = -1;
  double least = 0;
  for (std::size_t i = 0; i < offers.size(); ++i) {
    const auto& o = offers[i];
    if (!o.open || o.kv_tokens < wanted) continue;
    const auto prefill = static_cast<double>(o.load.prefill_tokens + what.text_tokens - o.cached_tokens);
    const auto decode = static_cast<double>(o.load.answer_tokens + what.answer_tokens) * share;
    const auto work = paces_[i] * (prefill * prefill_cost_ + decode * decode_cost_);
    if (best >= 0 && work >= least) continue;
    best = static_cast<std::ptrdiff_t>(i);
    least = work;
  }
  return best;
}

}  // namespace fastserve::scheduler
