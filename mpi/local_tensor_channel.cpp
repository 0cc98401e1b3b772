#include "mpi/local_tensor_channel.hpp"

#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>

#include "mpi/tensor_mailbox.hpp"

namespace fastserve::mpi {

struct local_tensor_hub::shared {
  explicit shared(int endpoints) {
    for (int i = 0; i < endpoints; ++i) boxes.emplace_back();
  }
  tensor_mailbox& box(int rank) {
    if (rank < 0 || rank >= static_cast<int>(boxes.size()))
      throw std::runtime_error("no tensor endpoint " + std::to_string(rank) + " among " +
                               std::to_string(boxes.size()));
    return boxes[static_cast<std::size_t>(rank)];
  }

  buffer_pool pool{std::size_t{256} << 20};
  std::deque<tensor_mailbox> boxes;  // by receiver; a deque, since they cannot move
};

namespace {

class local_tensor_channel final : public tensor_channel {
 public:
  local_tensor_channel(std::shared_ptr<local_tensor_hub::shared> hub, int rank)
      : hub_{std::move(hub)}, rank_{rank}, mine_{hub_->box(rank)} {}

  std::string_view name() const override { return "in-process"; }

  void send(int peer, tensor_key key, kernels::tensor_view what, kernels::backend& by,
            kernels::stream& on) override {
    require_contiguous(what, "tensor_channel::send");
    auto& box = hub_->box(peer);
    if (mine_.ended(key.epoch) || box.ended(key.epoch)) return;
    tensor_parcel parcel;
    parcel.peer = rank_;
    parcel.key = key;
    parcel.type = what.type;
    parcel.rows = what.rows;
    parcel.cols = what.cols;
    parcel.bytes = hub_->pool.acquire(what.bytes());
    if (what.bytes() != 0) std::memcpy(parcel.bytes.data(), by.host_read(what, on), what.bytes());
    box.put(std::move(parcel));
  }

  bool receive(int peer, tensor_key key, kernels::tensor_view out, kernels::backend& by, kernels::stream& on,
               std::chrono::nanoseconds deadline) override {
    require_contiguous(out, "tensor_channel::receive");
    auto parcel = mine_.take(peer, key, deadline);
    if (!parcel) return false;
    unpack(*parcel, out, by, on);
    return true;
  }

  void end_epoch(std::uint32_t epoch) override { mine_.end_epoch(epoch); }

 private:
  std::shared_ptr<local_tensor_hub::shared> hub_;
  int rank_;
  tensor_mailbox& mine_;
};

}  // namespace

local_tensor_hub::local_tensor_hub(int endpoints) : shared_{std::make_shared<shared>(endpoints)} {}

int local_tensor_hub::size() const { return static_cast<int>(shared_->boxes.size()); }

std::unique_ptr<tensor_channel> local_tensor_hub::endpoint(int rank) {
  return std::make_unique<local_tensor_channel>(shared_, rank);
}

}  // namespace fastserve::mpi
