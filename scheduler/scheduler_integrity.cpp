#include <algorithm>
#include <stdexcept>
#include <string>

#include "scheduler/sequence.hpp"

namespace fastserve::scheduler {

void scheduler::check_integrity() const {
  pool_.check_integrity();
  cache_.check_integrity();
  check_swap();
  check_choices();
  std::vector<std::int32_t> holders(static_cast<std::size_t>(pool_.capacity()), 0);
  std::size_t queued = 0;
  std::size_t resident = 0;
  std::int64_t text = 0;
  std::int64_t there = 0;
  std::int64_t due = 0;
  std::int32_t decoding = 0;
  for (const auto& [id, s] : sequences_) {
    for (const auto b : s->blocks) ++holders.at(static_cast<std::size_t>(b));
    queued += s->queued ? 1 : 0;
    resident += s->blocks.empty() ? 0 : 1;
    text += static_cast<std::int64_t>(s->tokens.size());
    there += s->known();
    due += s->due();
    decoding += s->decoding() ? 1 : 0;
    if (s->counted != s->decoding()) throw std::logic_error("a sequence that decodes is not counted as one");
    if (s->queued && s->item.resident != !s->blocks.empty())
      throw std::logic_error("the policy does not know who has memory");
    if (s->item.resident && !s->item.started)
      throw std::logic_error("a sequence has memory and has not begun");
    const bool runnable = ready(*s);
    if (runnable != s->queued)
      throw std::logic_error("a sequence that could run is not queued, or one that cannot is");
    if (s->backlog() < 0 || s->computed > s->dispatched || s->drawing > s->in_flight ||
        s->drawing > (runs_ahead() ? 2 : 1))
      throw std::logic_error("a sequence miscounts its rows");
    if (s->computed > s->known()) throw std::logic_error("a row is computed whose token is not known");
    if (s->in_flight == 0 && s->computed != s->dispatched) throw std::logic_error("a sequence has lost rows");
    if (static_cast<std::int32_t>(s->blocks.size()) < blocks_for(s->dispatched))
      throw std::logic_error("a sequence outgrew its blocks");
  }
  for (const auto& f : in_flight_)
    for (const auto b : f.kept) ++holders.at(static_cast<std::size_t>(b));
  if (text != text_tokens_ || there != there_tokens_ || due != due_tokens_)
    throw std::logic_error("the work to be done is miscounted");
  if (decoding != decoding_) throw std::logic_error("the sequences that decode are miscounted");
  if (queued != policy_->size()) throw std::logic_error("the policy holds sequences that are gone");
  if (resident != resident_.size()) throw std::logic_error("the list of resident sequences is wrong");
  for (std::int32_t b = 0; b < pool_.capacity(); ++b) {
    const auto known = pool_.references(b) - holders[static_cast<std::size_t>(b)];
    if (known != 0 && known != 1) throw std::logic_error("block " + std::to_string(b) + " is leaked");
  }
  if (pool_.capacity() - pool_.free_blocks() <
      static_cast<std::int32_t>(std::count_if(holders.begin(), holders.end(), [](auto n) { return n > 0; })))
    throw std::logic_error("a block is held and free");

  std::unordered_map<const sequence*, std::int32_t> flights;
  for (const auto& f : in_flight_)
    for (const auto& p : f.parts)
      if (p.of != nullptr) ++flights[p.of];
  for (const auto& [id, s] : sequences_) {
    const auto it = flights.find(s.get());
    if (s->in_flight != (it == flights.end() ? 0 : it->second))
      throw std::logic_error("a sequence miscounts its micro-batches in flight");
  }
}

}  // namespace fastserve::scheduler
