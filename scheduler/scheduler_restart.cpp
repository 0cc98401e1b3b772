// Requests outlive the pipeline that they ran in: they begin again in another one, with the tokens that they
// have.

#include <algorithm>
#include <cassert>
#include <iterator>
#include <tuple>
#include <utility>

#include "scheduler/sequence.hpp"

namespace fastserve::scheduler {

// What context and pool leave for an answer.
std::int32_t scheduler::room_for(std::int64_t prompt_tokens) const {
  const auto most =
      std::min<std::int64_t>(limits_.max_context, std::int64_t{limits_.kv_blocks} * block_tokens);
  return static_cast<std::int32_t>(std::max<std::int64_t>(most - prompt_tokens, 0));
}

// Its memory and its steps are no more.
void scheduler::forget_pipeline() {
  pool_ = block_pool{limits_.kv_blocks};
  cache_.clear();
  swap_ = swap_pool{limits_.swap.memory_slots, limits_.swap.disk_slots};
  tickets_.clear();
  moves_.clear();
  saved_ = 0;
  in_flight_.clear();
  resident_.clear();
  decoding_ = 0;
  there_tokens_ = 0;
  costs_ = {};  // of other stages
  busy_ = pressed_ = false;
}

// Every sequence has all to do again; those that were to end as soon as they are back have ended.
std::vector<progress> scheduler::forget_work(time now) {
  std::vector<sequence*> ending;
  for (const auto& [id, s] : sequences_) {
    s->blocks.clear();
    s->slots.clear();
    s->dispatched = s->computed = s->saved = s->in_flight = 0;
    s->told = 0;
    s->ticket = 0;
    s->item.cached_tokens = 0;
    s->drawing = 0;
    s->counted = s->shared = false;
    if (s->ending) ending.push_back(s.get());
  }
  std::sort(ending.begin(), ending.end(),
            [](const auto* a, const auto* b) { return a->what.id < b->what.id; });
  std::vector<progress> out;
  for (auto* s : ending) {
    if (s->first != nullptr) std::erase(s->first->choices, s);
    out.push_back(retire(*s, *s->ending, now));
  }
  return out;
}

void scheduler::recount() {
  text_tokens_ = due_tokens_ = 0;
  for (const auto& [id, s] : sequences_) {
    text_tokens_ += static_cast<std::int64_t>(s->tokens.size());
    due_tokens_ += s->due();
  }
}

std::vector<progress> scheduler::restart(std::int32_t stages, std::int32_t kv_blocks, time now,
                                         const swap_limits& swap, bool ahead) {
  assert(stages > 0 && kv_blocks > 0);
  limits_.stages = stages;
  limits_.ahead = ahead;
  limits_.kv_blocks = kv_blocks;
  limits_.swap = swap;
  forget_pipeline();
  auto out = forget_work(now);

  std::vector<sequence*> ordered;
  for (const auto& [id, s] : sequences_) {
    s->what.max_tokens = std::min(s->asked_tokens, room_for(s->prompt_tokens));
    if (s->first == nullptr) ordered.push_back(s.get());
  }
  std::sort(ordered.begin(), ordered.end(),
            [](const auto* a, const auto* b) { return a->item.ticket < b->item.ticket; });
  std::vector<sequence*> too_large;
  for (auto* s : ordered) {
    const bool queued = s->queued;
    leave(*s);
    if (s->due() <= 0) {
      too_large.push_back(s);
    } else if (queued) {
      describe(*s);
      policy_->unpop(s->item);
      s->queued = true;
    } else {
      enter(*s, now);
    }
  }
  // One that takes the place of another is too large, too.
  while (!too_large.empty()) {
    auto* s = too_large.back();
    too_large.pop_back();
    if (!s->choices.empty()) too_large.push_back(s->choices.front());
    out.push_back(retire(*s, s->answered() > 0 ? finish_reason::length : finish_reason::error, now));
  }
  recount();
  return out;
}

// Leaves the scheduler, with the choices that wait for it.
moved_request scheduler::give_away(sequence& s) {
  assert(s.first == nullptr && s.in_flight == 0 && s.blocks.empty());
  leave(s);
  policy_->ended(s.item);
  moved_request out;
  out.what = std::move(s.what);
  out.what.max_tokens = s.asked_tokens;
  out.answer.assign(s.tokens.begin() + s.prompt_tokens, s.tokens.end());
  s.tokens.resize(static_cast<std::size_t>(s.prompt_tokens));
  out.what.prompt = std::move(s.tokens);
  out.times = s.times;
  for (const auto* c : s.choices) out.what.choices.push_back(c->what.id);
  for (const auto id : out.what.choices) sequences_.erase(id);
  sequences_.erase(out.what.id);
  return out;
}

evacuation scheduler::evacuate(time now) {
  evacuation out;
  forget_pipeline();
  out.ended = forget_work(now);
  std::vector<sequence*> ordered;
  for (const auto& [id, s] : sequences_)
    if (s->first == nullptr) ordered.push_back(s.get());
  std::sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) {
    return std::tuple{a->item.arrived, a->what.id} < std::tuple{b->item.arrived, b->what.id};
  });
  for (auto* s : ordered) out.open.push_back(give_away(*s));
  recount();
  return out;
}

std::vector<moved_request> scheduler::withdraw() {
  std::vector<sequence*> waiting;
  for (const auto& [id, s] : sequences_)
    if (s->queued && !s->admitted && s->blocks.empty()) waiting.push_back(s.get());
  std::sort(waiting.begin(), waiting.end(), [](const auto* a, const auto* b) {
    return std::tuple{a->item.arrived, a->what.id} < std::tuple{b->item.arrived, b->what.id};
  });
  std::vector<moved_request> out;
  for (auto* s : waiting) out.push_back(give_away(*s));
  recount();
  return out;
}

std::vector<progress> scheduler::adopt(moved_request what, time now) {
  auto& s = enqueue(std::move(what.what), what.answer, what.times);
  std::vector<progress> out;
  if (s.due() > 0) {
    enter(s, now);
    return out;
  }
  // A choice that takes its place is too large, too.
  for (auto* next = &s; next != nullptr;) {
    auto& ends = *next;
    next = ends.choices.empty() ? nullptr : ends.choices.front();
    out.push_back(retire(ends, ends.answered() > 0 ? finish_reason::length : finish_reason::error, now));
  }
  return out;
}

}  // namespace fastserve::scheduler
