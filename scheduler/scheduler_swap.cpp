// Where the KV of preempted requests goes, and when it comes back.

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "scheduler/sequence.hpp"

namespace fastserve::scheduler {

std::optional<move_order> scheduler::take_moves() {
  if (moves_.empty()) return std::nullopt;
  return move_order{next_ticket_++, std::exchange(moves_, {})};
}

// Whoever uses the block from now on waits for the move.
void scheduler::move(const block_move& what) {
  moves_.push_back(what);
  touch(what.block);
  if (what.kind == move_kind::copy) touch(what.other);
}

void scheduler::touch(std::int32_t block) {
  const auto at = static_cast<std::size_t>(block);
  if (at >= tickets_.size()) tickets_.resize(at + 1, 0);
  tickets_[at] = next_ticket_;
}

// Blocks kept free, cached prefixes counted as such, so that a new request or one that grows finds its memory
// without waiting for copies.
std::int32_t scheduler::reserve() const { return std::min(limits_.max_batch, limits_.kv_blocks / 4); }

bool scheduler::worth_saving(const sequence& s) const {
  if (!limits_.swap.any() || s.computed == 0) return false;
  const auto blocks = std::span{s.blocks}.first(static_cast<std::size_t>(blocks_for(s.computed)));
  const auto needed = swap_.unsaved(blocks);
  if (needed > swap_.free_slots()) return false;
  const auto memory = std::min(needed, swap_.free_memory_slots());
  return cheaper_to_swap(limits_.swap, costs_.costs(), s.computed, memory, needed - memory,
                         limits_.token_budget);
}

void scheduler::save(sequence& s) {
  const auto blocks = std::span{s.blocks}.first(static_cast<std::size_t>(blocks_for(s.computed)));
  std::vector<block_move> out;
  swap_.save(blocks, static_cast<std::size_t>(s.computed / block_tokens), s.slots, out);
  for (const auto& m : out) move(m);
  totals_.blocks_out += out.size();
  s.saved = s.computed;
  ++saved_;
}

// Its blocks are there: fills those whose content is not.
void scheduler::bring_back(sequence& s) {
  if (s.saved > s.dispatched) {
    const auto last = static_cast<std::size_t>(blocks_for(s.saved));
    for (auto i = static_cast<std::size_t>(s.dispatched / block_tokens); i < last; ++i) {
      move({move_kind::in, s.blocks[i], s.slots[i]});
      ++totals_.blocks_in;
    }
    s.computed = s.saved;
    reach(s, s.saved);
    count_decoding(s);
  }
  forget_saved(s);
}

// Slots are filled and read in the order of the moves, so one may be given away while its copy is still to
// come.
void scheduler::forget_saved(sequence& s) {
  if (s.saved == 0) return;
  swap_.release_all(s.slots);
  s.saved = 0;
  --saved_;
}

// Copies in ahead those that come next, into memory beyond the reserve: the copies overlap the step that was
// just formed.
void scheduler::bring_back_next(time now) {
  if (saved_ == 0) return;
  std::vector<policy_item*> seen;
  while (static_cast<std::int32_t>(seen.size()) < limits_.max_batch) {
    auto* item = policy_->pop(now);
    if (item == nullptr) break;
    seen.push_back(item);
    auto& s = sequence::of(*item);
    if (s.saved == 0) continue;
    recall(s);
    const auto wanted = blocks_for(s.there()) - static_cast<std::int32_t>(s.blocks.size());
    if (free_blocks() - wanted < reserve()) {
      release_blocks(s);
      break;
    }
    if (pool_.free_blocks() < wanted) cache_.evict(wanted - pool_.free_blocks());
    take(s, s.there());
    describe(s);
  }
  for (auto item = seen.rbegin(); item != seen.rend(); ++item) policy_->unpop(**item);
}

// Copies out, while fewer blocks than the reserve are free, those whose next step is furthest away, but none
// that the next round of micro-batches has room for.
void scheduler::keep_reserve(time now) {
  if (free_blocks() >= reserve()) return;
  std::vector<sequence*> waiting;
  for (auto* v : resident_)
    if (v->queued && v->in_flight == 0) waiting.push_back(v);
  const auto running = static_cast<std::int64_t>(resident_.size() - waiting.size());
  const auto soon = static_cast<std::size_t>(
      std::max<std::int64_t>(std::int64_t{limits_.max_batch} * limits_.stages - running, 0));
  if (waiting.size() <= soon) return;
  std::sort(waiting.begin(), waiting.end(),
            [&](const auto* a, const auto* b) { return policy_->before(a->item, b->item, now); });
  std::vector<waiting_request> described;
  for (const auto* v : waiting)
    described.push_back({policy_->service_before(v->item), policy_->until_promotion(v->item, now)});
  const auto next = next_schedule_times(described, limits_.max_batch, costs_.costs().decode_step());
  std::vector<std::size_t> latest;
  for (auto i = waiting.size(); i-- > soon;) latest.push_back(i);
  std::stable_sort(latest.begin(), latest.end(), [&](auto a, auto b) { return next[a] > next[b]; });
  for (const auto i : latest) {
    if (free_blocks() >= reserve()) return;
    if (worth_saving(*waiting[i])) preempt(*waiting[i]);
  }
}

void scheduler::check_swap() const {
  swap_.check_integrity();
  std::vector<std::int32_t> holders(static_cast<std::size_t>(swap_.capacity()), 0);
  std::size_t saved = 0;
  for (const auto& [id, s] : sequences_) {
    if (s->slots.size() != static_cast<std::size_t>(blocks_for(s->saved)))
      throw std::logic_error("a sequence miscounts its swap slots");
    if (s->saved > 0 && !s->blocks.empty()) throw std::logic_error("a sequence is in two places");
    saved += s->saved > 0 ? 1 : 0;
    for (const auto slot : s->slots) ++holders.at(static_cast<std::size_t>(slot));
  }
  if (saved != saved_) throw std::logic_error("the number of swapped sequences is wrong");
  for (std::size_t i = 0; i < holders.size(); ++i)
    if (holders[i] != swap_.references(static_cast<std::int32_t>(i)))
      throw std::logic_error("swap slot " + std::to_string(i) + " is leaked");
}

}  // namespace fastserve::scheduler
