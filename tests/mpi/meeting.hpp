#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "mpi/message_pump.hpp"
#include "mpi_test.hpp"

namespace fastserve::tests {

/// Counts up to a goal with a deadline.
class countdown {
 public:
  void add(std::uint64_t n = 1) {
    {
      const std::lock_guard lock{mutex_};
      count_ += n;
    }
    changed_.notify_all();
  }
  bool wait_for(std::uint64_t goal, std::chrono::milliseconds limit = patience) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, limit, [&] { return count_ >= goal; });
  }
  std::uint64_t count() const {
    const std::lock_guard lock{mutex_};
    return count_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t count_ = 0;
};

/// A barrier of the living over a running pump, which goes on working meanwhile. Takes the user channel.
class meeting {
 public:
  explicit meeting(mpi::message_pump& pump) : pump_{pump}, seen_(static_cast<std::size_t>(pump.size())) {
    pump.set_handler(mpi::channel::user, [this](mpi::frame&& what) {
      {
        const std::lock_guard lock{mutex_};
        ++seen_[static_cast<std::size_t>(what.peer())];
      }
      changed_.notify_all();
    });
  }
  void wait() {
    ++round_;
    // To this rank last: once that has arrived, the others have left, and peers may be dropped.
    for (int i = 1; i <= pump_.size(); ++i) {
      const int peer = (pump_.rank() + i) % pump_.size();
      if (!pump_.dropped(peer)) pump_.push(peer, pump_.make_frame(mpi::channel::user, 0, mpi::any_epoch, 0));
    }
    std::unique_lock lock{mutex_};
    const bool all = changed_.wait_for(lock, patience, [this] {
      for (int peer = 0; peer < pump_.size(); ++peer)
        if (!pump_.dropped(peer) && seen_[static_cast<std::size_t>(peer)] < round_) return false;
      return true;
    });
    BOOST_REQUIRE(all);
  }

 private:
  mpi::message_pump& pump_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> seen_;  // frames by peer
  int round_ = 0;
};

}  // namespace fastserve::tests
