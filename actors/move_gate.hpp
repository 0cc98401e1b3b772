#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>

namespace fastserve::actors {

/// Where a rank's executor waits for its cache manager: a step may touch its blocks when the moves up to its
/// ticket are done. Tickets rise within an epoch.
class move_gate {
 public:
  /// Moves up to `ticket` are done.
  void done(std::uint32_t epoch, std::uint64_t ticket) {
    const std::lock_guard lock{mutex_};
    if (epoch < epoch_) return;
    ticket_ = epoch > epoch_ ? ticket : std::max(ticket_, ticket);
    epoch_ = epoch;
    changed_.notify_all();
  }
  /// Blocks the caller until they are. False when a later epoch has begun.
  bool wait(std::uint32_t epoch, std::uint64_t ticket) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock,
                  [&] { return epoch_ > epoch || ticket == 0 || (epoch_ == epoch && ticket_ >= ticket); });
    return epoch_ <= epoch;
  }
  /// Epochs before this one are over: nobody waits in them any more.
  void begin_epoch(std::uint32_t epoch) { done(epoch, 0); }
  /// Nobody waits any more at all.
  void close() { done(std::numeric_limits<std::uint32_t>::max(), 0); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint32_t epoch_ = 0;
  std::uint64_t ticket_ = 0;
};

}  // namespace fastserve::actors
