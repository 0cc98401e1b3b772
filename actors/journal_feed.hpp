#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "actors/messages.hpp"

namespace fastserve::actors {

/// The leader's half of the replicated journal: what was drawn for the requests that are open, and how much
/// of it the standby has. Parts go out one at a time, each with all that came since the last one, so the
/// standby lags by a part or two, and nothing piles up but the open answers themselves. A plain object.
class journal_feed {
 public:
  /// A part holds about `part_tokens` at most: it must not keep the standby from its heartbeats.
  explicit journal_feed(int leader, std::size_t part_tokens = std::size_t{1} << 15);

  /// A token of an open answer. `details`: with its log-probabilities.
  void add(std::uint64_t request, std::int32_t choice, const model::sampled_token& token, bool details);
  /// The request's answer is on the disk, or wanted no more.
  void close(std::uint64_t request);

  /// What the standby lacks; possibly nothing. Not before the last one was acknowledged, or begin_anew().
  journal_part next();
  /// False when the standby needs everything anew: the next part begins so.
  bool acknowledged(const journal_ack& ack);
  /// Another standby, or one that did not answer: the next part begins from nothing.
  void begin_anew();

  /// Tokens and closed requests that no part has held yet.
  std::size_t waiting() const { return waiting_; }
  std::size_t open() const { return open_.size(); }

 private:
  struct answer {
    answer_part all;
    std::size_t sent = 0;
  };
  struct request_answers {
    std::vector<answer> choices;
    bool queued = false;  // in changed_
    bool told = false;    // the standby has heard of it
  };

  int leader_;
  std::size_t part_tokens_;
  std::unordered_map<std::uint64_t, request_answers> open_;
  std::vector<std::uint64_t> changed_;
  std::vector<std::uint64_t> closed_;
  std::size_t waiting_ = 0;
  std::uint64_t next_ = 0;
  bool anew_ = true;
};

}  // namespace fastserve::actors
