#include "actors/journal_replica.hpp"

#include <utility>

namespace fastserve::actors {

journal_replica::journal_replica(int rank, std::size_t most_tokens)
    : rank_{rank}, most_tokens_{most_tokens} {}

void journal_replica::forget() {
  open_.clear();
  tokens_ = 0;
  next_ = 0;
  whole_ = false;
}

journal_ack journal_replica::take(const journal_part& part) {
  if (part.leader < leader_) return {rank_, false, next_};  // its time is over
  if (part.anew || part.leader != leader_) forget();
  leader_ = part.leader;
  if (part.anew) whole_ = true;
  bool fits = whole_ && part.number == next_;
  for (const auto& entry : part.entries) fits = fits && add(entry);
  if (!fits) {
    forget();
    return {rank_, false, 0};
  }
  for (const auto request : part.closed) {
    const auto it = open_.find(request);
    if (it == open_.end()) continue;
    for (const auto& a : it->second) tokens_ -= a.tokens.size();
    open_.erase(it);
  }
  ++next_;
  return {rank_, true, next_};
}

// False for what does not follow on what is there.
bool journal_replica::add(const journal_entry& entry) {
  const auto& more = entry.part;
  if (entry.choice < 0 || entry.choice >= model::most_choices || entry.from < 0) return false;
  if (!more.details.empty() && more.details.size() != more.tokens.size()) return false;
  if (more.tokens.size() > most_tokens_ - tokens_) return false;
  auto& choices = open_[entry.request];
  const auto index = static_cast<std::size_t>(entry.choice);
  if (choices.size() <= index) choices.resize(index + 1);
  auto& has = choices[index];
  if (static_cast<std::size_t>(entry.from) != has.tokens.size()) return false;
  if (!has.tokens.empty() && has.details.empty() != more.details.empty() && !more.tokens.empty())
    return false;
  has.tokens.insert(has.tokens.end(), more.tokens.begin(), more.tokens.end());
  has.details.insert(has.details.end(), more.details.begin(), more.details.end());
  tokens_ += more.tokens.size();
  return true;
}

known_answers journal_replica::hand_over() {
  auto out = std::exchange(open_, {});
  forget();
  return out;
}

}  // namespace fastserve::actors
