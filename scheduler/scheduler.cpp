#include "scheduler/scheduler.hpp"

#include <algorithm>
#include <cassert>
#include <stdexcept>
#include <utility>

#include "scheduler/sequence.hpp"

namespace fastserve::scheduler {

namespace {

// With fewer rows products take longer a row than the cost model says, which is linear.
constexpr std::int32_t least_chunk_rows = 64;

std::int32_t divide_up(std::int64_t a, std::int64_t b) { return static_cast<std::int32_t>((a + b - 1) / b); }

}  // namespace

// A micro-batch in the making.
struct scheduler::round {
  micro_batch out;
  step record;
  std::vector<sequence*> decodes;  // in the policy's order
  std::vector<sequence*> prefills;
  std::vector<sequence*> put_back;  // popped, and not wanted in this one
};

scheduler::scheduler(const limits& within, first_blocks* index, std::uint32_t number)
    : limits_{within},
      pool_{within.kv_blocks},
      cache_{pool_, index, number},
      swap_{within.swap.memory_slots, within.swap.disk_slots},
      policy_{make_policy(within.policy, costs_, within.max_batch * within.stages)} {
  assert(within.stages > 0 && within.max_batch > 0 && within.token_budget > 0);
}

scheduler::~scheduler() = default;

std::string scheduler::add(request what, time now) {
  const auto prompt = static_cast<std::int64_t>(what.prompt.size());
  const auto pool_tokens = std::int64_t{limits_.kv_blocks} * block_tokens;
  if (prompt == 0) return "the prompt is empty";
  if (prompt >= limits_.max_context)
    return "the prompt has " + std::to_string(prompt) + " tokens; the context holds " +
           std::to_string(limits_.max_context) + ", the answer included";
  if (prompt >= pool_tokens)
    return "the prompt has " + std::to_string(prompt) + " tokens; the KV cache holds " +
           std::to_string(pool_tokens) + ", the answer included";
  if (policy_->size() >= limits_.max_waiting)
    return "the queue is full: " + std::to_string(policy_->size()) + " requests wait";
  if (sequences_.contains(what.id)) return "the request id is in use";
  for (const auto id : what.choices)
    if (sequences_.contains(id)) return "the request id is in use";

  what.max_tokens = std::max(what.max_tokens, 1);
  auto& s = enqueue(std::move(what), {}, {now, {}, {}, {}});
  enter(s, now);
  return {};
}

// A sequence with its choices, not yet in the policy's hands.
scheduler::sequence& scheduler::enqueue(request what, std::span<const std::int32_t> answer,
                                        const request_times& times) {
  auto made = std::make_unique<sequence>();
  auto& s = *made;
  s.tokens = std::move(what.prompt);
  what.prompt.clear();
  s.prompt_tokens = static_cast<std::int32_t>(s.tokens.size());
  s.tokens.insert(s.tokens.end(), answer.begin(), answer.end());
  s.asked_tokens = what.max_tokens;
  what.max_tokens = std::min(what.max_tokens, room_for(s.prompt_tokens));
  s.what = std::move(what);
  s.times = times;
  s.admitted = times.admitted.count() != 0;
  s.item.id = s.what.id;
  s.item.priority = s.what.priority;
  s.item.arrived = times.arrived;
  s.item.total_tokens = s.prompt_tokens;
  s.item.cached_tokens = cached(s.what.cache_salt, s.tokens);
  text_tokens_ += static_cast<std::int64_t>(s.tokens.size());
  due_tokens_ += s.due();
  add_choices(s);
  sequences_.emplace(s.what.id, std::move(made));
  return s;
}

// What the policy may know of a sequence; only while the policy does not hold it.
void scheduler::describe(sequence& s) {
  s.item.prefill_tokens = s.decodes() ? 0 : s.backlog() - (s.blocks.empty() ? s.item.cached_tokens : 0);
  s.item.remaining_tokens = s.what.max_tokens - s.answered();
  s.item.started = s.admitted;
  s.item.resident = !s.blocks.empty();
}

void scheduler::enter(sequence& s, time now) {
  describe(s);
  policy_->push(s.item, now);
  s.queued = true;
}

void scheduler::leave(sequence& s) {
  if (!s.queued) return;
  policy_->remove(s.item);
  s.queued = false;
}

void scheduler::release_blocks(sequence& s) {
  // The last block first: the cache lets go of leaves before their parents.
  for (auto b = s.blocks.rbegin(); b != s.blocks.rend(); ++b) {
    pool_.release(*b);
    cache_.released(*b);
  }
  if (!s.blocks.empty()) {
    resident_.back()->place = s.place;
    std::swap(resident_[s.place], resident_.back());
    resident_.pop_back();
  }
  s.blocks.clear();
  reach(s, 0);
  s.computed = 0;
  s.shared = false;
  s.told = 0;
  s.ticket = 0;
  count_decoding(s);
}

// The last of the steps that have rows of it holds its blocks, too.
void scheduler::detach(sequence& s) {
  step* last = nullptr;
  for (auto& f : in_flight_)
    for (auto& p : f.parts)
      if (p.of == &s) {
        p.of = nullptr;
        last = &f;
      }
  if (last == nullptr) return;
  for (const auto b : s.blocks) pool_.retain(b);
  last->kept.insert(last->kept.end(), s.blocks.begin(), s.blocks.end());
}

void scheduler::settle(sequence& s) {
  s.place = resident_.size();
  resident_.push_back(&s);
}

void scheduler::count_decoding(sequence& s) {
  const bool decoding = s.decoding();
  if (decoding == s.counted) return;
  s.counted = decoding;
  decoding_ += decoding ? 1 : -1;
}

// So many of its rows are there or under way.
void scheduler::reach(sequence& s, std::int32_t rows) {
  there_tokens_ -= s.known();
  s.dispatched = rows;
  there_tokens_ += s.known();
}

void scheduler::preempt(sequence& s) {
  const bool queued = s.queued;
  leave(s);
  if (worth_saving(s)) save(s);
  release_blocks(s);
  describe(s);
  ++totals_.preemptions;
  if (!queued) return;  // popped in this round: goes back with the rest
  policy_->unpop(s.item);
  s.queued = true;
}

// Whether it has a row to compute: also that of a token which a step in flight draws, where the answer goes
// on behind it.
bool scheduler::ready(const sequence& s) const {
  if (s.ending || s.backlog() <= 0) return false;
  return s.drawing == 0 || (s.drawing == 1 && runs_ahead() && !s.holds() && s.due() > 1);
}

// Whether the pipeline has room for another step.
bool scheduler::has_room() const {
  const auto flying = static_cast<std::int32_t>(in_flight_.size());
  if (flying < limits_.stages) return true;
  return runs_ahead() && flying == 1 && !pressed_ && !in_flight_.back().holds;
}

// Whether a request that has nothing yet should begin: not when the others would soon have to make way for
// it.
bool scheduler::may_start(const sequence& s) const {
  if (resident_.empty() || !s.blocks.empty()) return true;
  return free_blocks() >= blocks_for(static_cast<std::int64_t>(s.tokens.size()) + 1) +
                              static_cast<std::int32_t>(resident_.size() / 8);
}

bool scheduler::make_room(sequence& s, std::int32_t blocks, time now) {
  while (pool_.free_blocks() < blocks) {
    if (cache_.evict(blocks - pool_.free_blocks()) > 0) continue;
    sequence* last = nullptr;
    bool flying = false;
    for (auto* v : resident_) {
      if (v == &s || !policy_->before(s.item, v->item, now)) continue;
      flying |= v->in_flight > 0;
      if (v->in_flight > 0) continue;
      if (last == nullptr || policy_->before(last->item, v->item, now)) last = v;
    }
    if (last != nullptr) {
      preempt(*last);
      continue;
    }
    // Its own blocks may hang on cached copies of its prefix that another request made at the same time, and
    // keep them from being evicted.
    s.told = 0;
    if (cache_.forget(s.blocks) > 0) continue;
    pressed_ |= flying;
    return false;
  }
  return true;
}

// The longest prefix that is cached.
void scheduler::recall(sequence& s) {
  if (!limits_.prefix_caching) return;
  const auto most = static_cast<std::int32_t>(s.tokens.size()) - 1;
  // Of a text that is known whole only the last token is computed, for its logits, in a copy of the last
  // block.
  const auto found = cache_.match(s.what.cache_salt, s.tokens, s.saved > 0 ? most : most + 1, s.blocks);
  s.computed = std::min(found, most);
  s.shared = found > most;
  reach(s, s.computed);
  s.told = s.blocks.size();
  for (const auto b : s.blocks) s.ticket = std::max(s.ticket, ticket_of(b));
  if (!s.blocks.empty()) settle(s);
  count_decoding(s);
}

// Blocks for the first `tokens` rows, from what is free; and in them what was saved.
void scheduler::take(sequence& s, std::int32_t tokens) {
  if (shares_tail(s)) own_tail(s);
  const auto had = s.blocks.size();
  pool_.allocate(blocks_for(tokens) - static_cast<std::int32_t>(had), s.blocks);
  if (had == 0) settle(s);
  for (auto i = had; i < s.blocks.size(); ++i) swap_.overwritten(s.blocks[i]);
  if (s.saved > 0) bring_back(s);
  for (auto i = had; i < s.blocks.size(); ++i) s.ticket = std::max(s.ticket, ticket_of(s.blocks[i]));
}

// Puts up to `rows` rows of the sequence into the micro-batch, with KV blocks for them.
bool scheduler::place(sequence& s, std::int32_t rows, round& r, time now) {
  const bool begins = s.blocks.empty();
  if (begins) {
    if (!may_start(s)) return false;
    recall(s);
  }
  rows = std::min(rows, s.backlog());
  const auto wanted =
      blocks_for(s.there() + rows) - static_cast<std::int32_t>(s.blocks.size()) + (shares_tail(s) ? 1 : 0);
  if (wanted > 0 && !make_room(s, wanted, now)) {
    if (begins) release_blocks(s);  // the cached prefix
    return false;
  }
  if (wanted > 0 || s.saved > 0) take(s, s.there() + rows);
  // Others may have copied the block that it goes on in.
  if (!tickets_.empty() && s.dispatched % block_tokens != 0)
    s.ticket = std::max(s.ticket, ticket_of(s.blocks[static_cast<std::size_t>(s.dispatched / block_tokens)]));
  if (!s.admitted) {
    s.admitted = true;
    s.times.admitted = now;
    totals_.prefix_hit_tokens += static_cast<std::uint64_t>(s.dispatched);
  }
  const bool samples = rows == s.backlog();
  const bool coming = s.drawing > 0;
  const auto at = static_cast<std::size_t>(s.dispatched);
  if (!s.decodes()) totals_.prompt_tokens += static_cast<std::uint64_t>(rows);
  r.out.entries.push_back(
      {s.what.id,
       s.dispatched,
       coming ? std::span{&coming_token, 1} : std::span{s.tokens}.subspan(at, static_cast<std::size_t>(rows)),
       s.blocks,
       samples,
       {}});
  if (samples)
    for (const auto* c : s.choices) r.out.entries.back().choices.push_back(c->what.id);
  r.record.parts.push_back({&s, s.what.id, rows, samples});
  r.record.holds |= samples && s.holds();
  r.record.size.rows += rows;
  r.record.size.draws += samples ? 1 + static_cast<std::int64_t>(s.choices.size()) : 0;
  r.record.size.context += std::int64_t{rows} * s.dispatched + std::int64_t{rows} * (rows + 1) / 2;
  r.out.rows += rows;
  r.out.ticket = std::max(r.out.ticket, s.ticket);
  reach(s, s.dispatched + rows);
  count_decoding(s);
  s.in_flight += 1;
  s.drawing += samples ? 1 : 0;
  r.out.followed |= s.due() > s.drawing;
  return true;
}

// Takes from the policy, in its order, what may be in this micro-batch.
void scheduler::choose(round& r, time now) {
  // An even share of the decode rows for each stage, so that the pipeline's micro-batches take equally long.
  const auto share = static_cast<std::size_t>(
      std::min({divide_up(decoding_, limits_.stages), limits_.max_batch, limits_.token_budget}));
  const auto most = static_cast<std::size_t>(limits_.max_batch);
  std::int64_t rows = 0;
  const auto take = [&](sequence& s) {
    s.queued = false;
    if (s.decodes()) {
      (r.decodes.size() < share ? r.decodes : r.put_back).push_back(&s);
      return;
    }
    r.prefills.push_back(&s);
    rows += s.backlog();
  };
  const auto more = [&] {
    if (r.decodes.size() + r.prefills.size() >= most || r.put_back.size() >= 2 * most) return false;
    return rows < std::int64_t{limits_.token_budget} * limits_.stages || r.decodes.size() < share;
  };
  while (more()) {
    auto* item = policy_->pop(now);
    if (item == nullptr) return;
    auto& s = sequence::of(*item);
    if (may_start(s)) {
      take(s);
      continue;
    }
    // No memory for those that have not begun: what can run is among those that have, however far behind.
    policy_->unpop(*item);
    for (std::size_t i = 0; i < 3 * most && more(); ++i) {
      item = policy_->pop_resident();
      if (item == nullptr) return;
      take(sequence::of(*item));
    }
    return;
  }
}

std::optional<micro_batch> scheduler::schedule(time now) {
  assert(moves_.empty());
  if (!has_room() || policy_->size() == 0) return std::nullopt;
  pressed_ = false;
  round r;
  choose(r, now);
  r.out.entries.reserve(std::min(r.decodes.size() + r.prefills.size(), std::size_t(limits_.max_batch)));
  r.record.parts.reserve(r.out.entries.capacity());

  for (auto* s : r.decodes)
    if (!s->decodes() || !place(*s, 1, r, now) || ready(*s)) r.put_back.push_back(s);

  // Prompts are cut so that every stage has work; what is under way counts, lest chunks shrink to the end.
  const auto decoded = r.out.rows;
  std::int64_t prompts = 0;
  for (const auto* s : r.prefills) prompts += s->backlog();
  for (const auto& f : in_flight_) prompts += f.prefilled;
  const auto chunk = costs_.costs().chunk(prompts, limits_.stages, least_chunk_rows);
  const auto budget =
      static_cast<std::int32_t>(std::min<std::int64_t>(limits_.token_budget, decoded + chunk));
  bool memory = true;  // once a request found none, those behind it do not get it either
  for (auto* s : r.prefills) {
    const bool room =
        r.out.rows < budget && r.out.entries.size() < static_cast<std::size_t>(limits_.max_batch);
    if (!memory || !room || !place(*s, budget - r.out.rows, r, now)) {
      memory = memory && !room;
      r.put_back.push_back(s);
    } else if (ready(*s)) {
      r.put_back.push_back(s);  // its next chunk may follow at once, or its first token's row
    }
  }
  for (auto* s : r.put_back) {
    describe(*s);
    policy_->unpop(s->item);
    s->queued = true;
  }
  if (limits_.swap.any()) {
    bring_back_next(now);
    keep_reserve(now);
  }
  if (r.out.entries.empty()) return std::nullopt;
  r.out.step = r.record.id = step_id{next_step_++};
  r.record.begun = now;
  r.record.rows = r.out.rows;
  r.record.prefilled = r.out.rows - decoded;
  r.record.follows = busy_;
  r.record.full = static_cast<std::int32_t>(in_flight_.size()) + 1 == limits_.stages;
  r.record.alone = in_flight_.empty();
  r.out.followed = runs_ahead() && !pressed_ && !r.record.holds && (r.out.followed || policy_->size() > 0);
  in_flight_.push_back(std::move(r.record));
  ++totals_.steps;
  return std::move(r.out);
}

bool scheduler::idle() const { return sequences_.empty() && in_flight_.empty(); }

counters scheduler::count() const {
  auto c = totals_;
  c.running = resident_.size();
  c.waiting = sequences_.size() - resident_.size();
  c.in_flight_steps = in_flight_.size();
  c.kv_blocks = pool_.capacity();
  c.kv_blocks_free = free_blocks();
  c.swap_slots = swap_.capacity();
  c.swap_slots_free = swap_.free_slots();
  return c;
}

// Those without blocks have all to do, but for what is swapped out, which is not counted.
work_load scheduler::load() const { return {text_tokens_ - there_tokens_, due_tokens_}; }

// The last token of a text is always computed.
std::int32_t scheduler::cached(std::uint64_t salt, std::span<const std::int32_t> tokens) const {
  const auto size = static_cast<std::int32_t>(tokens.size());
  if (!limits_.prefix_caching || size == 0) return 0;
  return std::min(cache_.peek(salt, tokens, size), size - 1);
}

std::span<const std::int32_t> scheduler::tokens(request_id id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? std::span<const std::int32_t>{}
                                : std::span<const std::int32_t>{it->second->tokens};
}

}  // namespace fastserve::scheduler
