#include "mpi/tensor_mailbox.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace fastserve::mpi {
namespace {

std::string shape_text(std::int64_t rows, std::int64_t cols, kernels::dtype type) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "] " +
         std::string{kernels::name_of(type)};
}

}  // namespace

bool tensor_mailbox::put(tensor_parcel&& parcel) {
  {
    const std::lock_guard lock{mutex_};
    if (ended(parcel.key.epoch)) return false;
    const bool known = std::any_of(parcels_.begin(), parcels_.end(), [&](const tensor_parcel& p) {
      return p.peer == parcel.peer && p.key == parcel.key;
    });
    if (known || parcels_.size() >= max_parcels_) {
      ++refused_;
      return false;
    }
    parcels_.push_back(std::move(parcel));
  }
  arrived_.notify_all();
  return true;
}

std::optional<tensor_parcel> tensor_mailbox::take(int peer, tensor_key key,
                                                  std::chrono::nanoseconds deadline) {
  // Capped, so that "for ever" does not overflow the clock.
  const auto until = std::chrono::steady_clock::now() +
                     std::min<std::chrono::nanoseconds>(deadline, std::chrono::hours{24 * 365});
  std::unique_lock lock{mutex_};
  for (;;) {
    if (ended(key.epoch)) return std::nullopt;
    const auto found = std::find_if(parcels_.begin(), parcels_.end(),
                                    [&](const tensor_parcel& p) { return p.peer == peer && p.key == key; });
    if (found != parcels_.end()) {
      auto parcel = std::move(*found);
      if (found != parcels_.end() - 1) *found = std::move(parcels_.back());
      parcels_.pop_back();
      return parcel;
    }
    if (std::chrono::steady_clock::now() >= until) return std::nullopt;
    arrived_.wait_until(lock, until);
  }
}

void tensor_mailbox::end_epoch(std::uint32_t epoch) {
  {
    const std::lock_guard lock{mutex_};
    const auto first = std::uint64_t{epoch} + 1;
    if (first <= first_live_epoch_) return;
    first_live_epoch_ = first;
    std::erase_if(parcels_, [this](const tensor_parcel& p) { return ended(p.key.epoch); });
  }
  arrived_.notify_all();
}

std::size_t tensor_mailbox::waiting() const {
  const std::lock_guard lock{mutex_};
  return parcels_.size();
}

void unpack(const tensor_parcel& parcel, kernels::tensor_view out, kernels::backend& by,
            kernels::stream& on) {
  if (parcel.rows != out.rows || parcel.cols != out.cols || parcel.type != out.type)
    throw std::runtime_error("tensor from rank " + std::to_string(parcel.peer) + ", epoch " +
                             std::to_string(parcel.key.epoch) + " step " + std::to_string(parcel.key.step) +
                             ": expected " + shape_text(out.rows, out.cols, out.type) + ", found " +
                             shape_text(parcel.rows, parcel.cols, parcel.type));
  if (out.bytes() != 0) by.upload(out, parcel.elements(), on);
}

void require_contiguous(const kernels::tensor_view& what, std::string_view call) {
  if (what.contiguous() && what.rows >= 0 && what.cols >= 0) return;
  throw std::runtime_error(std::string{call} + " wants a contiguous tensor, found " +
                           shape_text(what.rows, what.cols, what.type) + " with stride " +
                           std::to_string(what.stride));
}

}  // namespace fastserve::mpi
