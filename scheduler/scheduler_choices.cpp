// Several answers to one prompt.

#include <algorithm>
#include <cassert>
#include <stdexcept>
#include <utility>

#include "scheduler/sequence.hpp"

namespace fastserve::scheduler {

void scheduler::add_choices(sequence& s) {
  for (const auto id : std::exchange(s.what.choices, {})) {
    auto c = std::make_unique<sequence>();
    c->what = s.what;
    c->what.id = c->item.id = id;
    c->item.priority = s.item.priority;
    c->item.arrived = s.item.arrived;
    c->item.total_tokens = s.item.total_tokens;
    c->prompt_tokens = s.prompt_tokens;
    c->asked_tokens = s.asked_tokens;
    c->times = s.times;
    c->first = &s;
    s.choices.push_back(c.get());
    due_tokens_ += c->due();
    sequences_.emplace(id, std::move(c));
  }
}

// The prompt is in, and nothing behind it.
void scheduler::share(sequence& choice, sequence& of) {
  assert(of.computed == of.prompt_tokens && choice.blocks.empty());
  choice.first = nullptr;
  choice.tokens = of.tokens;
  text_tokens_ += static_cast<std::int64_t>(of.tokens.size());
  choice.blocks = of.blocks;
  for (const auto b : choice.blocks) pool_.retain(b);
  choice.shared = of.shared = true;
  choice.computed = of.computed;
  reach(choice, of.computed);
  choice.told = of.told;
  choice.ticket = of.ticket;
  choice.admitted = true;
  choice.times.admitted = of.times.admitted;
  settle(choice);
  count_decoding(choice);
}

// The one whose prompt they wait for ends before it is in: the next one takes its place.
void scheduler::hand_over(sequence& s, time now) {
  auto rest = std::exchange(s.choices, {});
  auto& next = *rest.front();
  rest.erase(rest.begin());
  for (auto* c : rest) c->first = &next;
  next.choices = std::move(rest);
  next.first = nullptr;
  next.tokens.assign(s.tokens.begin(), s.tokens.begin() + s.prompt_tokens);
  text_tokens_ += s.prompt_tokens;
  enter(next, now);
}

// Whether its next row goes into a block that others hold, too: other choices, or the cache and who else took
// the block from it.
bool scheduler::shares_tail(const sequence& s) const {
  if (!s.shared) return false;
  const auto tail = static_cast<std::size_t>(s.dispatched / block_tokens);
  return s.dispatched % block_tokens != 0 && tail < s.blocks.size() && pool_.references(s.blocks[tail]) > 1;
}

void scheduler::own_tail(sequence& s) {
  auto& tail = s.blocks[static_cast<std::size_t>(s.dispatched / block_tokens)];
  std::vector<std::int32_t> fresh;
  pool_.allocate(1, fresh);
  swap_.overwritten(fresh[0]);
  move({move_kind::copy, fresh[0], tail});
  ++totals_.blocks_copied;
  pool_.release(tail);
  cache_.released(tail);
  tail = fresh[0];
  s.ticket = std::max(s.ticket, ticket_of(tail));
}

void scheduler::check_choices() const {
  for (const auto& [id, s] : sequences_) {
    for (const auto* c : s->choices)
      if (c->first != s.get()) throw std::logic_error("a choice waits for another sequence");
    if (s->first == nullptr) continue;
    if (std::count(s->first->choices.begin(), s->first->choices.end(), s.get()) != 1)
      throw std::logic_error("a choice waits for a sequence that does not know it");
    if (!s->tokens.empty() || !s->blocks.empty() || s->queued)
      throw std::logic_error("a choice has begun before its prompt is in");
  }
}

}  // namespace fastserve::scheduler
