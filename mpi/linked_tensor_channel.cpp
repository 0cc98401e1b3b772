#include "mpi/linked_tensor_channel.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "mpi/tensor_mailbox.hpp"

namespace fastserve::mpi {

linked_tensor_channel::linked_tensor_channel(std::unique_ptr<tensor_channel> host,
                                             std::unique_ptr<device_link> link, int rank,
                                             std::chrono::nanoseconds patience)
    : host_{std::move(host)}, link_{std::move(link)}, rank_{rank}, patience_{patience} {}

linked_tensor_channel::~linked_tensor_channel() { link_->abort(); }

bool linked_tensor_channel::over(std::uint32_t epoch) const { return any_ended_ && epoch <= ended_; }

bool linked_tensor_channel::ends_soon(std::uint32_t epoch) {
  std::unique_lock lock{mutex_};
  return epoch_over_.wait_for(lock, patience_, [&] { return over(epoch); });
}

bool linked_tensor_channel::join(const link_plan& plan, std::size_t largest_bytes,
                                 std::chrono::nanoseconds deadline) {
  const auto me = std::find(plan.ranks.begin(), plan.ranks.end(), rank_);
  {
    const std::lock_guard lock{mutex_};
    members_.clear();
    if (over(plan.epoch)) return false;
    if (plan.id.empty() || me == plan.ranks.end()) return true;
    epoch_ = plan.epoch;
  }
  const int size = static_cast<int>(plan.ranks.size());
  // The epoch may end before the link begins to join, when an abort() finds nothing to end yet.
  const auto wanted = [&] {
    const std::lock_guard lock{mutex_};
    return !over(plan.epoch);
  };
  try {
    if (!link_->join(plan.id, size, static_cast<int>(me - plan.ranks.begin()), largest_bytes, deadline,
                     wanted))
      return false;
  } catch (const std::runtime_error&) {
    if (ends_soon(plan.epoch)) return false;
    throw;
  }
  const std::lock_guard lock{mutex_};
  if (over(plan.epoch)) {  // it ended while the last ones joined
    link_->abort();
    return false;
  }
  members_ = plan.ranks;
  return true;
}

int linked_tensor_channel::member_of(int peer, std::uint32_t epoch) const {
  const std::lock_guard lock{mutex_};
  if (epoch != epoch_) return -1;
  const auto found = std::find(members_.begin(), members_.end(), peer);
  return found == members_.end() ? -1 : static_cast<int>(found - members_.begin());
}

std::string linked_tensor_channel::name_to(int peer) const {
  {
    const std::lock_guard lock{mutex_};
    if (std::find(members_.begin(), members_.end(), peer) != members_.end()) return link_->name();
  }
  return std::string{host_->name()};
}

void linked_tensor_channel::send(int peer, tensor_key key, kernels::tensor_view what, kernels::backend& by,
                                 kernels::stream& on) {
  const int member = member_of(peer, key.epoch);
  if (member < 0) {
    host_->send(peer, key, what, by, on);
    return;
  }
  require_contiguous(what, "tensor_channel::send");
  try {
    if (what.bytes() != 0) link_->send(member, what.data, what.bytes(), on);
  } catch (const std::runtime_error&) {
    if (!ends_soon(key.epoch)) throw;
  }
}

bool linked_tensor_channel::receive(int peer, tensor_key key, kernels::tensor_view out, kernels::backend& by,
                                    kernels::stream& on, std::chrono::nanoseconds deadline) {
  const int member = member_of(peer, key.epoch);
  // An epoch that ended meanwhile has no members: the host's channel says that it is over.
  if (member < 0) return host_->receive(peer, key, out, by, on, deadline);
  require_contiguous(out, "tensor_channel::receive");
  try {
    return out.bytes() == 0 || link_->receive(member, out.data, out.bytes(), on, deadline);
  } catch (const std::runtime_error&) {
    if (ends_soon(key.epoch)) return false;
    throw;
  }
}

void linked_tensor_channel::end_epoch(std::uint32_t epoch) {
  host_->end_epoch(epoch);
  const std::lock_guard lock{mutex_};
  ended_ = any_ended_ ? std::max(ended_, epoch) : epoch;
  any_ended_ = true;
  epoch_over_.notify_all();
  if (epoch_ > ended_) return;
  members_.clear();
  link_->abort();
}

std::vector<int> linkable(std::span<const int> ranks, std::span<const std::string> devices) {
  std::vector<int> out;
  for (std::size_t i = 0; i < ranks.size(); ++i)
    if (!devices[i].empty() && std::count(devices.begin(), devices.end(), devices[i]) == 1)
      out.push_back(ranks[i]);
  if (out.size() < 2) out.clear();
  return out;
}

}  // namespace fastserve::mpi
