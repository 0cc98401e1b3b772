#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "actors/journal_feed.hpp"
#include "actors/leader_footing.hpp"
#include "actors/write_lease.hpp"

namespace caf {
class scoped_actor;
}

namespace fastserve::actors {

class rank_host;

/// Leader: keeps its standby informed of what is drawn, on a thread of its own, and knows by the answers
/// whether it is still the leader.
class journal_sender {
 public:
  /// `footing`: of the leader now; any thread. `host` outlives this.
  journal_sender(rank_host& host, std::function<leader_footing()> footing);
  journal_sender(const journal_sender&) = delete;
  journal_sender& operator=(const journal_sender&) = delete;
  ~journal_sender();

  // Any thread.
  void add(std::uint64_t request, std::int32_t choice, const model::sampled_token& token, bool details);
  void close(std::uint64_t request);
  /// Blocks until this rank may write what its successor would write: see write_lease.hpp.
  void wait_for_lease();

 private:
  using clock = std::chrono::steady_clock;

  void serve();
  leader_footing look();
  bool send(caf::scoped_actor& self, int to);

  rank_host& host_;
  std::function<leader_footing()> footing_;
  std::chrono::nanoseconds deadline_;

  std::mutex mutex_;
  std::condition_variable work_;     // for the thread
  std::condition_variable renewed_;  // for who waits for the lease
  journal_feed feed_;
  write_lease lease_;
  std::chrono::nanoseconds sight_lost_at_{};  // that the lease knows of
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fastserve::actors
