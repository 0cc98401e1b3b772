#include <algorithm>
#include <cassert>
#include <iterator>

#include "scheduler/sequence.hpp"

namespace fastserve::scheduler {

std::vector<progress> scheduler::restart(std::int32_t stages, std::int32_t kv_blocks, time now,
                                         const swap_limits& swap) {
  assert(stages > 0 && kv_blocks > 0);
  limits_.stages = stages;
  limits_.kv_blocks = kv_blocks;
  pool_ = block_pool{kv_blocks};
  cache_.clear();
  limits_.swap = swap;
  swap_ = swap_pool{swap.memory_slots, swap.disk_slots};
  tickets_.assign(static_cast<std::size_t>(kv_blocks), 0);
  moves_.clear();
  saved_ = 0;
  in_flight_.clear();
  resident_.clear();
  decoding_ = 0;
  costs_ = {};  // of other stages
  busy_ = false;

  const auto pool_tokens = std::int64_t{kv_blocks} * block_tokens;
  std::vector<sequence*> ordered;
  for (const auto& [id, s] : sequences_) ordered.push_back(s.get());
  std::sort(ordered.begin(), ordered.end(),
            [](const auto* a, const auto* b) { return a->item.ticket < b->item.ticket; });
  std::vector<progress> out;
  for (auto* s : ordered) {
    const bool queued = s->queued;
    leave(*s);
    s->blocks.clear();
    s->slots.clear();
    s->dispatched = s->computed = s->saved = s->in_flight = 0;
    s->told = 0;
    s->ticket = 0;
    s->item.cached_tokens = 0;
    s->drawing = s->counted = false;
    if (s->ending) {
      if (s->first != nullptr) std::erase(s->first->choices, s);
      out.push_back(retire(*s, *s->ending, now));
      continue;
    }
    const auto room = std::max<std::int64_t>(0, pool_tokens - s->prompt_tokens);
    s->what.max_tokens = static_cast<std::int32_t>(std::min<std::int64_t>(s->what.max_tokens, room));
    if (s->first != nullptr) continue;
    if (s->answered() >= s->what.max_tokens) {
      out.push_back(retire(*s, s->answered() > 0 ? finish_reason::length : finish_reason::error, now));
    } else if (queued) {
      describe(*s);
      policy_->unpop(s->item);
      s->queued = true;
    } else {
      enter(*s, now);
    }
  }
  // Choices that took the place of one that ended just now.
  for (auto it = sequences_.begin(); it != sequences_.end();) {
    auto& s = *it->second;
    const bool too_large = s.first == nullptr && s.answered() >= s.what.max_tokens;
    if (too_large) out.push_back(retire(s, finish_reason::error, now));
    it = too_large ? sequences_.begin() : std::next(it);
  }
  return out;
}

}  // namespace fastserve::scheduler
