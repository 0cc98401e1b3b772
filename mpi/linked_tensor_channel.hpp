#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mpi/device_link.hpp"
#include "mpi/tensor_channel.hpp"

namespace fastserve::mpi {

/// The ranks that a link joins in an epoch.
struct link_plan {
  std::uint32_t epoch = 0;
  std::string id;          ///< from make_id() of one of them; empty: no link
  std::vector<int> ranks;  ///< in order of the pipeline
};

/// Tensors over a link between devices where both ends are on it, through host memory elsewhere: a job may
/// mix ranks with a GPU and ranks without.
///
/// Over the link a key is not carried: both stages run the steps of an epoch in the same order, and an epoch
/// has a link of its own.
class linked_tensor_channel final : public tensor_channel {
 public:
  /// A link may fail because a peer died, before its silence is noticed and ends the epoch: an error that the
  /// end of the epoch follows within `patience` is none.
  linked_tensor_channel(std::unique_ptr<tensor_channel> host, std::unique_ptr<device_link> link, int rank,
                        std::chrono::nanoseconds patience);
  ~linked_tensor_channel() override;

  std::string make_id() { return link_->make_id(); }
  /// Joins the link of an epoch, for tensors of at most `largest_bytes`. Nothing where the plan has no id or
  /// not this rank. False when the epoch is over or the deadline has passed. Throws std::runtime_error.
  bool join(const link_plan& plan, std::size_t largest_bytes, std::chrono::nanoseconds deadline);
  /// What carries tensors to and from `peer` now.
  std::string name_to(int peer) const;

  std::string_view name() const override { return host_->name(); }
  void send(int peer, tensor_key key, kernels::tensor_view what, kernels::backend& by,
            kernels::stream& on) override;
  bool receive(int peer, tensor_key key, kernels::tensor_view out, kernels::backend& by, kernels::stream& on,
               std::chrono::nanoseconds deadline) override;
  void end_epoch(std::uint32_t epoch) override;

 private:
  int member_of(int peer, std::uint32_t epoch) const;  // -1: through host memory
  bool over(std::uint32_t epoch) const;
  bool ends_soon(std::uint32_t epoch);

  std::unique_ptr<tensor_channel> host_;
  std::unique_ptr<device_link> link_;
  int rank_;
  std::chrono::nanoseconds patience_;
  mutable std::mutex mutex_;
  std::condition_variable epoch_over_;
  std::uint32_t ended_ = 0;  // this epoch and all before it are over
  bool any_ended_ = false;
  std::uint32_t epoch_ = 0;  // the link's
  std::vector<int> members_;
};

/// Which stages of a pipeline can be joined by a link: those with a device each, no two the same one.
/// `devices` names the device of every stage, host included; empty: none. Fewer than two are no link.
std::vector<int> linkable(std::span<const int> ranks, std::span<const std::string> devices);

}  // namespace fastserve::mpi
