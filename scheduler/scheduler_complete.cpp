// What becomes of requests when a step is back, and their ends.

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "scheduler/sequence.hpp"

namespace fastserve::scheduler {

namespace {

// Of many pipelines' sequences none is in the processor's caches any more when its step is back, and waiting
// for one after the other would be half of a simulation's time: they are asked for so many ahead.
constexpr std::size_t ahead = 4;
constexpr std::size_t cache_line = 64;

template <class T>
void fetch(const T* what) {
  if (what == nullptr) return;
  for (std::size_t at = 0; at < sizeof(T); at += cache_line)
    __builtin_prefetch(reinterpret_cast<const char*>(what) + at, 1);
}

}  // namespace

std::vector<progress> scheduler::complete(step_id id, std::span<const drawn_token> drawn, time now) {
  if (in_flight_.empty() || in_flight_.front().id != id)
    throw std::logic_error("step " + std::to_string(static_cast<std::uint64_t>(id)) +
                           " is not the oldest in flight");
  const auto record = std::move(in_flight_.front());
  in_flight_.pop_front();
  // A step passes through all stages: its share of one of them is what the policy's quanta are made of. In
  // one stage it waits for the step that it ran ahead of.
  const auto from = limits_.stages == 1 ? std::max(record.begun, last_completed_) : record.begun;
  const auto spent = (now - from) / limits_.stages;
  observe(record, now);

  std::vector<progress> out;
  out.reserve(drawn.size());
  auto next = drawn.begin();
  const auto token_of = [&](request_id id) {
    if (next == drawn.end() || next->id != id)
      throw std::logic_error("the tokens of a step do not match its sequences");
    return next++->token;
  };
  const auto& parts = record.parts;
  for (std::size_t i = 0; i < std::min(parts.size(), ahead); ++i) fetch(parts[i].of);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i + ahead < parts.size()) fetch(parts[i + ahead].of);
    const auto& [s, id, rows, samples] = parts[i];
    if (s == nullptr) {
      if (samples) token_of(id);
      continue;
    }
    s->in_flight -= 1;
    s->computed += rows;
    std::int32_t token = -1;
    std::vector<std::pair<sequence*, std::int32_t>> begun;  // choices
    if (samples) {
      token = token_of(id);
      s->drawing -= 1;
      for (auto* c : std::exchange(s->choices, {})) {
        begun.emplace_back(c, token_of(c->what.id));
        share(*c, *s);
      }
    }
    if (limits_.prefix_caching)
      s->told = cache_.insert(s->what.cache_salt, s->tokens, s->computed, s->blocks, s->told);
    if (s->ending) {
      if (s->in_flight == 0) out.push_back(retire(*s, *s->ending, now));
    } else {
      const bool queued = s->queued;
      leave(*s);
      policy_->ran(s->item, spent);
      if (token >= 0) {
        answer(*s, token, now, out);
      } else if (queued) {
        policy_->unpop(s->item);
        s->queued = true;
      }
    }
    for (const auto& [c, drawn_for_it] : begun) {
      if (c->ending)
        out.push_back(retire(*c, *c->ending, now));
      else
        answer(*c, drawn_for_it, now, out);
    }
  }
  if (next != drawn.end()) throw std::logic_error("the tokens of a step do not match its sequences");
  for (auto b = record.kept.rbegin(); b != record.kept.rend(); ++b) {
    pool_.release(*b);
    cache_.released(*b);
  }
  last_completed_ = now;
  busy_ = policy_->size() > 0;
  return out;
}

// A token drawn for a sequence that the policy does not hold.
void scheduler::answer(sequence& s, std::int32_t token, time now, std::vector<progress>& out) {
  there_tokens_ -= s.known();
  s.tokens.push_back(token);
  there_tokens_ += s.known();
  ++text_tokens_;
  --due_tokens_;
  ++totals_.completion_tokens;
  if (s.answered() == 1) s.times.first_token = now;
  const auto& stops = s.what.stop_ids;
  std::optional<finish_reason> reason;
  if (std::find(stops.begin(), stops.end(), token) != stops.end())
    reason = finish_reason::stop;
  else if (s.answered() >= s.what.max_tokens)
    reason = finish_reason::length;
  if (reason) {
    out.push_back(retire(s, *reason, now));
    out.back().token = token;
  } else {
    if (ready(s)) enter(s, now);
    out.push_back({s.what.id, token, std::nullopt, s.times, s.prompt_tokens, s.answered()});
  }
}

// From result to result while there is work, so that what lies between two steps counts. In a pipeline the
// pace of a full one shows what its slowest stage takes. A step that was alone in it from end to end shows
// their mean: were only full ones counted, a prompt that is not cut would never show that it should be. One
// that ran ahead began when the one before was done.
void scheduler::observe(const step& done, time now) {
  if (limits_.stages == 1)
    costs_.observe(done.size,
                   now - (done.follows || done.begun < last_completed_ ? last_completed_ : done.begun));
  else if (done.full && done.begun <= last_completed_)
    costs_.observe(done.size, now - last_completed_);
  else if (done.alone && in_flight_.empty())
    costs_.observe(done.size, (now - done.begun) / limits_.stages);
}

std::optional<progress> scheduler::finish(request_id id, finish_reason as, time now) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return std::nullopt;
  auto& s = *it->second;
  if (s.first != nullptr) {
    // Its token is under way, or it has not begun.
    if (s.first->drawing > 0) {
      s.ending = as;
      return std::nullopt;
    }
    std::erase(s.first->choices, &s);
  }
  if (s.in_flight > 0 && !(runs_ahead() && s.choices.empty())) {
    leave(s);
    s.ending = as;
    count_decoding(s);
    return std::nullopt;
  }
  return retire(s, as, now);
}

progress scheduler::retire(sequence& s, finish_reason why, time now) {
  s.times.finished = now;
  progress out{s.what.id, -1, why, s.times, s.prompt_tokens, s.answered()};
  leave(s);
  policy_->ended(s.item);
  if (!s.choices.empty()) hand_over(s, now);
  if (s.in_flight > 0) detach(s);
  release_blocks(s);
  forget_saved(s);
  ++totals_.finished;
  text_tokens_ -= static_cast<std::int64_t>(s.tokens.size());
  due_tokens_ -= s.due();
  sequences_.erase(s.what.id);
  return out;
}

}  // namespace fastserve::scheduler
