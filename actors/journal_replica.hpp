#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "actors/messages.hpp"

namespace fastserve::actors {

/// How the answers of the requests that were open begin, by request: [choices].
using known_answers = std::unordered_map<std::uint64_t, std::vector<answer_part>>;

/// The standby's half of the replicated journal. Takes parts in their order alone; whatever does not fit (a
/// gap, another leader, tokens that do not follow on those it has) makes it forget all and ask for everything
/// anew. It may lack what the leader had: that is computed again, to the same tokens. So forgetting is always
/// safe, and taking what does not fit never is. A plain object.
class journal_replica {
 public:
  /// Keeps `most_tokens` at most; what is beyond is forgotten.
  explicit journal_replica(int rank, std::size_t most_tokens = std::size_t{1} << 26);

  journal_ack take(const journal_part& part);
  /// What it has, once.
  known_answers hand_over();

  std::size_t tokens() const { return tokens_; }
  std::size_t open() const { return open_.size(); }

 private:
  bool add(const journal_entry& entry);
  void forget();

  int rank_;
  std::size_t most_tokens_;
  int leader_ = -1;
  std::uint64_t next_ = 0;
  bool whole_ = false;  // has all since a part that began anew
  known_answers open_;
  std::size_t tokens_ = 0;
};

}  // namespace fastserve::actors
