#include "scheduler/replica_set.hpp"

#include <algorithm>
#include <cassert>
#include <stdexcept>
#include <utility>

namespace fastserve::scheduler {

namespace {

// Completed steps between two looks at what steps cost; and of each pipeline, where there are many.
constexpr std::uint64_t steps_between_looks = 64;
constexpr std::uint64_t steps_of_each = 8;

std::int64_t kv_tokens_of(const scheduler& s) { return std::int64_t{s.bounds().kv_blocks} * block_tokens; }

}  // namespace

replica_set::replica_set(const std::vector<limits>& pipelines)
    : first_blocks_{std::make_unique<first_blocks>()},
      router_{pipelines.size(), pipelines.at(0).max_batch, pipelines.at(0).token_budget},
      offers_(pipelines.size()) {
  for (const auto& l : pipelines) {
    const auto number = pipelines_.size();
    auto* index = pipelines.size() > 1 ? first_blocks_.get() : nullptr;
    pipelines_.push_back({std::make_unique<scheduler>(l, index, static_cast<std::uint32_t>(number))});
    changed_.push_back(number);
    if (l.kv_blocks > 0) stand(number, true, false);
  }
}

std::string replica_set::add(request what, time now) {
  for (const auto id : what.choices)
    if (places_.contains(id)) return "the request id is in use";
  if (places_.contains(what.id)) return "the request id is in use";
  std::size_t to = 0;
  if (size() > 1) {
    const auto best = choose(what, 0, what.prompt);
    if (best < 0) return "no pipeline is left";
    to = static_cast<std::size_t>(best);
  }
  request named;  // what is known of it once it has gone
  named.id = what.id;
  named.choices = what.choices;
  named.max_tokens = what.max_tokens;
  auto refusal = own(to).add(std::move(what), now);
  if (refusal.empty()) keep(to, named, named.id);
  return refusal;
}

std::optional<micro_batch> replica_set::schedule(std::size_t pipeline, time now) {
  if (!stands(pipeline)) return std::nullopt;
  return own(pipeline).schedule(now);
}

std::vector<progress> replica_set::complete(std::size_t pipeline, step_id step,
                                            std::span<const drawn_token> drawn, time now) {
  auto out = own(pipeline).complete(step, drawn, now);
  forget(out);
  if (size() > 1 && ++completed_ % std::max(steps_between_looks, steps_of_each * size()) == 0) learn();
  return out;
}

progress replica_set::give(request_id id, std::int32_t token, time now) {
  const auto it = places_.find(id);
  if (it == places_.end()) throw std::logic_error("a token for a request that is not there");
  const auto out = own(it->second.pipeline).give(id, token, now);
  forget({&out, 1});
  return out;
}

std::optional<progress> replica_set::finish(request_id id, finish_reason as, time now) {
  const auto it = places_.find(id);
  if (it == places_.end()) return std::nullopt;
  auto out = own(it->second.pipeline).finish(id, as, now);
  if (out) forget({&*out, 1});
  return out;
}

std::span<const std::int32_t> replica_set::tokens(request_id id) const {
  const auto it = places_.find(id);
  return it == places_.end() ? std::span<const std::int32_t>{} : of(it->second.pipeline).tokens(id);
}

std::optional<std::size_t> replica_set::pipeline_of(request_id id) const {
  const auto it = places_.find(id);
  return it == places_.end() ? std::nullopt : std::optional{it->second.pipeline};
}

std::vector<progress> replica_set::lose(std::size_t pipeline, time now) {
  if (!stands(pipeline)) return {};
  stand(pipeline, false, pipelines_[pipeline].gone);
  if (size() == 1) return {};
  auto given = own(pipeline).evacuate(now);
  deal(std::move(given.open), given.ended, now, pipeline);
  forget(given.ended);
  return std::move(given.ended);
}

std::vector<progress> replica_set::restore(std::size_t pipeline, std::int32_t stages, std::int32_t kv_blocks,
                                           time now, const swap_limits& swap, bool ahead) {
  std::vector<progress> out;
  if (size() == 1) {
    stand(pipeline, true, false);
    out = own(pipeline).restart(stages, kv_blocks, now, swap, ahead);
    forget(out);
    return out;
  }
  auto given = own(pipeline).evacuate(now);
  out = std::move(given.ended);
  own(pipeline).restart(stages, kv_blocks, now, swap, ahead);
  stand(pipeline, true, false);
  deal(std::move(given.open), out, now);
  for (std::size_t i = 0; i < size(); ++i) {
    if (i == pipeline) continue;
    // Those that waited for another one need not any more; those that wait in one need no longer queue there.
    auto waiting = stands(i) ? own(i).withdraw() : own(i).evacuate(now).open;
    deal(std::move(waiting), out, now, i);
  }
  forget(out);
  return out;
}

std::vector<progress> replica_set::give_up(std::size_t pipeline, time now) {
  stand(pipeline, false, true);
  auto given = own(pipeline).evacuate(now);
  deal(std::move(given.open), given.ended, now);
  forget(given.ended);
  return std::move(given.ended);
}

// `home` keeps those that the pipelines which stand cannot hold as far as it can.
void replica_set::deal(std::vector<moved_request> open, std::vector<progress>& ended, time now,
                       std::optional<std::size_t> home) {
  std::unordered_map<request_id, std::size_t> dealt;  // by the first of their choices
  for (auto& m : open) {
    const auto first = places_.at(m.what.id).first;
    auto text = m.what.prompt;
    text.insert(text.end(), m.answer.begin(), m.answer.end());
    const auto size = size_of(m.what, m.answer.size());
    renew_offers();
    std::int64_t largest = 0;
    for (const auto& o : offers_)
      if (o.open) largest = std::max(largest, o.kv_tokens);
    std::size_t to = 0;
    const auto sibling = dealt.find(first);
    if (home && !stands(*home) && std::min(size.longest, kv_tokens_of(of(*home))) > largest) {
      to = *home;
    } else if (sibling != dealt.end() &&
               std::min(size.longest, largest) <= kv_tokens_of(of(sibling->second))) {
      to = sibling->second;
    } else if (const auto best = choose(m.what, m.answer.size(), text); best >= 0) {
      to = static_cast<std::size_t>(best);
    } else {
      throw std::logic_error("no pipeline is left for the requests of one that is gone");
    }
    dealt.emplace(first, to);
    keep(to, m.what, first);
    for (auto& p : own(to).adopt(std::move(m), now)) ended.push_back(p);
  }
}

// All its choices are drawn from one computation of the text.
request_size replica_set::size_of(const request& what, std::size_t answered) const {
  const auto prompt = static_cast<std::int64_t>(what.prompt.size());
  const auto got = static_cast<std::int64_t>(answered);
  const auto context = std::int64_t{of(0).bounds().max_context};
  const auto answer = std::max<std::int64_t>(std::min<std::int64_t>(what.max_tokens, context - prompt), 0);
  return {prompt + got, answer - got + answer * static_cast<std::int64_t>(what.choices.size()),
          prompt + answer};
}

// What a request is offered differs from what any other is by the cached part of its text alone, and few
// pipelines have that.
std::ptrdiff_t replica_set::choose(const request& what, std::size_t answered,
                                   std::span<const std::int32_t> text) {
  renew_offers();
  std::span<const std::uint32_t> holders;
  if (const auto key = prefix_cache::first_key(what.cache_salt, text)) holders = first_blocks_->holders(*key);
  for (const auto i : holders) offers_[i].cached_tokens = of(i).cached(what.cache_salt, text);
  const auto best = router_.choose(size_of(what, answered), offers_);
  for (const auto i : holders) offers_[i].cached_tokens = 0;
  return best;
}

void replica_set::renew_offers() {
  for (const auto i : changed_) {
    auto& p = pipelines_[i];
    offers_[i] = {standing_ > 0 ? p.stands : !p.gone, kv_tokens_of(*p.own), p.own->load(), 0};
    p.changed = false;
  }
  changed_.clear();
}

void replica_set::stand(std::size_t pipeline, bool stands, bool gone) {
  auto& p = pipelines_[pipeline];
  const auto before = standing_;
  if (p.stands) --standing_;
  if (stands) ++standing_;
  p.stands = stands;
  p.gone = gone;
  own(pipeline);
  // While none stands those that will come back are open, and no longer when one does.
  if ((before == 0) == (standing_ == 0)) return;
  for (std::size_t i = 0; i < size(); ++i) own(i);
}

void replica_set::keep(std::size_t pipeline, const request& what, request_id first) {
  places_[what.id] = {pipeline, first, what.max_tokens};
  for (const auto id : what.choices) places_[id] = {pipeline, first, what.max_tokens};
}

void replica_set::forget(std::span<const progress> of) {
  for (const auto& p : of) {
    if (!p.finished) continue;
    const auto it = places_.find(p.id);
    if (it == places_.end()) continue;
    if (*p.finished == finish_reason::stop || *p.finished == finish_reason::length)
      router_.answered(it->second.asked, p.completion_tokens);
    places_.erase(it);
  }
}

void replica_set::learn() {
  std::vector<const cost_model*> costs;
  for (const auto& p : pipelines_) costs.push_back(p.stands ? &p.own->costs() : nullptr);
  router_.learn(costs);
}

bool replica_set::idle() const {
  return std::all_of(pipelines_.begin(), pipelines_.end(), [](const auto& p) { return p.own->idle(); });
}

counters replica_set::count() const {
  counters out;
  for (const auto& p : pipelines_) {
    const auto c = p.own->count();
    out.waiting += c.waiting;
    out.running += c.running;
    out.in_flight_steps += c.in_flight_steps;
    out.steps += c.steps;
    out.prompt_tokens += c.prompt_tokens;
    out.completion_tokens += c.completion_tokens;
    out.finished += c.finished;
    out.preemptions += c.preemptions;
    out.prefix_hit_tokens += c.prefix_hit_tokens;
    out.blocks_out += c.blocks_out;
    out.blocks_in += c.blocks_in;
    out.blocks_copied += c.blocks_copied;
    if (!p.stands) continue;
    out.kv_blocks += c.kv_blocks;
    out.kv_blocks_free += c.kv_blocks_free;
    out.swap_slots += c.swap_slots;
    out.swap_slots_free += c.swap_slots_free;
  }
  return out;
}

void replica_set::check_integrity() const {
  std::size_t requests = 0;
  for (const auto& p : pipelines_) {
    p.own->check_integrity();
    const auto now = p.own->load();
    const auto& known = offers_[static_cast<std::size_t>(&p - pipelines_.data())];
    if (!p.changed &&
        (known.load.prefill_tokens != now.prefill_tokens || known.load.answer_tokens != now.answer_tokens ||
         known.kv_tokens != kv_tokens_of(*p.own) || known.open != (standing_ > 0 ? p.stands : !p.gone)))
      throw std::logic_error("a pipeline has changed unseen");
    const auto c = p.own->count();
    requests += c.waiting + c.running;
  }
  if (requests != places_.size()) throw std::logic_error("requests are lost between the pipelines");
  for (const auto& [id, at] : places_)
    if (!of(at.pipeline).knows(id)) throw std::logic_error("a request is not in its pipeline");
}

}  // namespace fastserve::scheduler
