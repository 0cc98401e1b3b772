#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "far_backend.hpp"
#include "mpi/device_link.hpp"

namespace fastserve::tests {

/// Where memory_links meet.
struct link_room {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::vector<bool>> joined;                                       // [id][member]
  std::map<std::tuple<std::string, int, int>, std::deque<std::vector<std::byte>>> sent;  // [id, from, to]
  int ids = 0;
  bool broken = false;
};

/// A device_link between threads of a process over far memory, with NCCL's manners: a join waits for all, a
/// receive for ever, unless aborted; sizes must agree. It can be broken, as by the death of a member.
class memory_link final : public mpi::device_link {
 public:
  memory_link(std::shared_ptr<link_room> room, far_backend& device)
      : room_{std::move(room)}, device_{device} {}

  std::string name() const override { return "memory"; }
  std::string make_id() override {
    const std::lock_guard lock{room_->mutex};
    return "link " + std::to_string(room_->ids++);
  }
  bool join(const std::string& id, int size, int me, std::size_t largest_bytes,
            std::chrono::nanoseconds deadline, const std::function<bool()>& wanted) override {
    std::unique_lock lock{room_->mutex};
    if (room_->broken) throw std::runtime_error("the network is down");
    const auto term = ++term_;
    auto& joined = room_->joined[id];
    joined.resize(static_cast<std::size_t>(size));
    if (joined.at(static_cast<std::size_t>(me))) throw std::runtime_error("a member joins twice");
    joined[static_cast<std::size_t>(me)] = true;
    room_->changed.notify_all();
    const auto all = [&] {
      return term != term_ || std::find(joined.begin(), joined.end(), false) == joined.end();
    };
    const auto end = std::chrono::steady_clock::now() + deadline;
    while (!all()) {
      room_->changed.wait_for(lock, std::chrono::milliseconds{1});
      lock.unlock();
      const bool on = wanted() && std::chrono::steady_clock::now() < end;
      lock.lock();
      if (!on) return false;
    }
    if (term != term_) return false;
    id_ = id;
    me_ = me;
    largest_ = largest_bytes;
    live_ = true;
    return true;
  }
  void send(int to, const void* data, std::size_t bytes, kernels::stream& on) override {
    std::vector<std::byte> copy(bytes);
    device_.download(copy.data(), view_of(const_cast<void*>(data), bytes), on);
    const std::lock_guard lock{room_->mutex};
    if (room_->broken) throw std::runtime_error("the network is down");
    if (!live_) return;
    if (bytes > largest_) throw std::runtime_error("more bytes than agreed");
    room_->sent[{id_, me_, to}].push_back(std::move(copy));
    room_->changed.notify_all();
  }
  bool receive(int from, void* data, std::size_t bytes, kernels::stream& on,
               std::chrono::nanoseconds deadline) override {
    std::unique_lock lock{room_->mutex};
    if (room_->broken) throw std::runtime_error("the network is down");
    if (!live_) return false;
    const auto term = term_;
    auto& queue = room_->sent[{id_, from, me_}];
    room_->changed.wait_for(lock, deadline, [&] { return term != term_ || !queue.empty(); });
    if (term != term_ || queue.empty()) return false;
    auto bytes_sent = std::move(queue.front());
    queue.pop_front();
    if (bytes_sent.size() != bytes) throw std::runtime_error("sizes do not agree");
    device_.upload(view_of(data, bytes), bytes_sent.data(), on);
    return true;
  }
  void abort() override {
    const std::lock_guard lock{room_->mutex};
    ++term_;
    live_ = false;
    room_->changed.notify_all();
  }

 private:
  static kernels::tensor_view view_of(void* data, std::size_t bytes) {
    const auto count = static_cast<std::int64_t>(bytes);
    return {data, kernels::dtype::i8, {kernels::device_kind::cuda, 7}, 1, count, count};
  }

  std::shared_ptr<link_room> room_;
  far_backend& device_;
  std::string id_;
  int me_ = 0;
  std::size_t largest_ = 0;
  std::uint64_t term_ = 0;
  bool live_ = false;
};

}  // namespace fastserve::tests
