#include "mpi/transport_core.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

namespace fastserve::mpi {
namespace {

/// Takes actors that nobody holds out of a map of weak pointers; returns the size to do so again at. What
/// was the last handle meanwhile is in `release`, which must outlive the lock.
template <class Map>
std::size_t forget_dead(Map& actors, std::vector<caf::strong_actor_ptr>& release) {
  std::erase_if(actors, [&release](const auto& entry) {
    auto alive = caf::actor_cast<caf::strong_actor_ptr>(entry.second);
    if (!alive) return true;
    release.push_back(std::move(alive));
    return false;
  });
  return first_sweep + 2 * actors.size();
}

}  // namespace

actor_transport::core::core(caf::actor_system& sys, message_pump& pump, transport_options options)
    : sys_{sys}, pump_{pump}, options_{options}, down_(static_cast<std::size_t>(pump.size())) {}

// -- handles ------------------------------------------------------------------

caf::strong_actor_ptr actor_transport::core::proxy(int rank, std::uint64_t address) {
  const bool role = (address & role_bit) != 0;
  const std::pair key{rank, address};
  std::vector<caf::strong_actor_ptr> release;
  const std::lock_guard lock{mutex_};
  if (role) {
    if (const auto known = proxies_.find(key); known != proxies_.end()) return known->second;
  } else if (const auto known = askers_.find(key); known != askers_.end()) {
    if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(known->second)) return alive;
  }
  auto made = make_remote_proxy(sys_, rank, address,
                                [weak = weak_from_this()](const remote_proxy& to, caf::strong_actor_ptr from,
                                                          caf::message_id id, caf::message msg) {
                                  if (auto self = weak.lock())
                                    self->ship(to, std::move(from), id, msg);
                                  else
                                    fail_local(from, id, transport_error::shutting_down, {});
                                });
  if (stopped_) return made;
  if (role) {
    proxies_.emplace(key, made);
  } else {
    if (askers_.size() >= sweep_askers_at_) sweep_askers_at_ = forget_dead(askers_, release);
    askers_[key] = caf::actor_cast<caf::weak_actor_ptr>(made);
  }
  return made;
}

caf::strong_actor_ptr actor_transport::core::published(role_id role) const {
  const std::lock_guard lock{mutex_};
  const auto found = roles_.find(address_of(role));
  return found == roles_.end() ? nullptr : found->second;
}

void actor_transport::core::publish(role_id role, caf::strong_actor_ptr actor) {
  const auto address = address_of(role);
  std::deque<frame> waiting;
  caf::strong_actor_ptr replaced;  // dies after the lock
  {
    const std::lock_guard lock{mutex_};
    if (stopped_) return;
    auto& slot = roles_[address];
    replaced = std::exchange(slot, actor);
    if (replaced) role_of_.erase(replaced->id());
    role_of_[actor->id()] = address;
    gone_roles_.erase(address);
    if (const auto found = parked_.find(address); found != parked_.end()) {
      waiting.swap(found->second);
      parked_.erase(found);
      parked_frames_ -= waiting.size();
      for (const auto& what : waiting) parked_bytes_ -= what.bytes().size();
    }
  }
  for (auto& what : waiting) receive(std::move(what));
}

void actor_transport::core::unpublish(role_id role) {
  const auto address = address_of(role);
  caf::strong_actor_ptr last;  // dies after the lock
  const std::lock_guard lock{mutex_};
  gone_roles_[address] = true;
  const auto found = roles_.find(address);
  if (found == roles_.end()) return;
  last = std::move(found->second);
  role_of_.erase(last->id());
  roles_.erase(found);
}

void actor_transport::core::seal() {
  std::unordered_map<std::uint64_t, std::deque<frame>> waiting;
  {
    const std::lock_guard lock{mutex_};
    sealed_ = true;
    waiting.swap(parked_);
    parked_frames_ = 0;
    parked_bytes_ = 0;
  }
  for (auto& [address, frames] : waiting)
    for (auto& what : frames) receive(std::move(what));
}

// -- out ----------------------------------------------------------------------

void actor_transport::core::register_sender(const caf::strong_actor_ptr& from, actor_envelope& out,
                                            std::vector<caf::strong_actor_ptr>& release) {
  out.from_rank = pump_.rank();
  if (!from) return;
  if (const auto* remote = as_remote(from)) {  // delegated: the answer goes straight to who asked
    out.from_rank = remote->rank();
    out.from = remote->address();
    return;
  }
  if (const auto role = role_of_.find(from->id()); role != role_of_.end()) {
    out.from = role->second;
    return;
  }
  out.from = from->id();
  if (!senders_.try_emplace(out.from, caf::actor_cast<caf::weak_actor_ptr>(from)).second) return;
  if (senders_.size() < sweep_at_) return;
  sweep_at_ = forget_dead(senders_, release);
}

frame actor_transport::core::pack(const actor_envelope& envelope, const caf::message& msg) {
  constexpr std::size_t kept_bytes = std::size_t{1} << 20;
  thread_local message_bytes scratch;
  scratch.clear();
  if (auto err = write(sys_, msg, scratch); err != caf::error{})
    throw std::runtime_error(describe(sys_, err));
  auto out = pump_.make_frame(channel::actors, 0, any_epoch, sizeof envelope + scratch.size());
  std::memcpy(out.payload().data(), &envelope, sizeof envelope);
  if (!scratch.empty()) std::memcpy(out.payload().data() + sizeof envelope, scratch.data(), scratch.size());
  if (scratch.capacity() > kept_bytes) message_bytes{}.swap(scratch);
  return out;
}

void actor_transport::core::ship(const remote_proxy& to, caf::strong_actor_ptr from, caf::message_id id,
                                 const caf::message& msg) {
  const bool tracked = id.is_request() && from && as_remote(from) == nullptr;
  actor_envelope envelope;
  envelope.to = to.address();
  envelope.message_id = id.integer_value();
  request_key key{};
  std::vector<caf::strong_actor_ptr>
      release;  // possibly last references: an actor must not end under the lock
  {
    std::unique_lock lock{mutex_};
    const bool down = down_.at(static_cast<std::size_t>(to.rank()));
    if (stopped_ || down) {
      const auto code = stopped_ ? transport_error::shutting_down : transport_error::peer_down;
      lock.unlock();
      fail_local(from, id, code, "rank " + std::to_string(to.rank()));
      return;
    }
    register_sender(from, envelope, release);
    if (tracked) {
      key = {envelope.from, id.response_id().integer_value()};
      pending_[key] = {to.rank(), from};
    }
  }
  auto code = transport_error::none;
  std::string text;
  try {
    auto out = pack(envelope, msg);
    try {
      if (pump_.push(to.rank(), std::move(out)))
        ++sent_;
      else
        code = pump_.dropped(to.rank()) ? transport_error::peer_down : transport_error::shutting_down;
    } catch (const std::exception& e) {
      code = transport_error::queue_full;
      text = e.what();
    }
  } catch (const std::exception& e) {
    code = transport_error::not_serializable;
    text = e.what();
  }
  if (code == transport_error::none) return;
  if (tracked) {
    // Whoever takes the entry answers: the rank may have been declared dead meanwhile.
    if (auto asker = take_pending(key.actor, key.response)) fail_local(asker, id, code, text);
  } else {
    fail_local(from, id, code, text);
  }
}

void actor_transport::core::fail_local(const caf::strong_actor_ptr& asker, caf::message_id id,
                                       transport_error code, const std::string& text) {
  if (!asker || !id.is_request()) return;
  deliver(asker, nullptr, id.response_id(), caf::make_message(caf::make_error(code, text)));
}

// -- in -----------------------------------------------------------------------

void actor_transport::core::receive(frame&& what) {
  const auto payload = what.payload();
  actor_envelope envelope;
  if (payload.size() < sizeof envelope) {
    ++malformed_;
    return;
  }
  std::memcpy(&envelope, payload.data(), sizeof envelope);
  if (envelope.from_rank < 0 || envelope.from_rank >= pump_.size()) {
    ++malformed_;
    return;
  }
  const auto id = caf::make_message_id(envelope.message_id);
  if (id.is_response()) {
    auto asker = take_pending(envelope.to, envelope.message_id);
    if (asker)
      hand_over(asker, what, envelope);
    else
      ++stale_;
    return;
  }
  auto to = find(envelope.to);
  if (to) {
    hand_over(to, what, envelope);
  } else if ((envelope.to & role_bit) != 0) {
    park(envelope.to, std::move(what), envelope);
  } else {
    ++undelivered_;
    refuse(envelope, transport_error::unknown_actor);
  }
}

caf::strong_actor_ptr actor_transport::core::find(std::uint64_t address) {
  const std::lock_guard lock{mutex_};
  if ((address & role_bit) != 0) {
    const auto role = roles_.find(address);
    return role == roles_.end() ? nullptr : role->second;
  }
  const auto sender = senders_.find(address);
  return sender == senders_.end() ? nullptr : caf::actor_cast<caf::strong_actor_ptr>(sender->second);
}

caf::strong_actor_ptr actor_transport::core::take_pending(std::uint64_t actor, std::uint64_t response) {
  const std::lock_guard lock{mutex_};
  const auto found = pending_.find({actor, response});
  if (found == pending_.end()) return nullptr;
  auto asker = std::move(found->second.asker);
  pending_.erase(found);
  return asker;
}

void actor_transport::core::park(std::uint64_t address, frame&& what, const actor_envelope& envelope) {
  auto code = transport_error::none;
  {
    const std::lock_guard lock{mutex_};
    const auto bytes = what.bytes().size();
    if (stopped_) {
      code = transport_error::shutting_down;
    } else if (sealed_ || gone_roles_.contains(address)) {
      code = transport_error::unknown_role;
    } else if (parked_frames_ >= options_.max_parked_frames ||
               parked_bytes_ + bytes > options_.max_parked_bytes) {
      code = transport_error::queue_full;
    } else {
      ++parked_frames_;
      parked_bytes_ += bytes;
      parked_[address].push_back(std::move(what));
      return;
    }
  }
  ++undelivered_;
  refuse(envelope, code);
}

void actor_transport::core::hand_over(const caf::strong_actor_ptr& to, const frame& what,
                                      const actor_envelope& envelope) {
  const auto body = what.payload().subspan(sizeof envelope);
  caf::message msg;
  std::string wrong;
  try {
    if (auto err = read(sys_, body.data(), body.size(), msg); err != caf::error{})
      wrong = describe(sys_, err);
  } catch (const std::exception& e) {  // CAF's readers may throw on hostile sizes
    wrong = e.what();
  }
  const auto id = caf::make_message_id(envelope.message_id);
  if (!wrong.empty()) {
    ++malformed_;
    if (id.is_response())
      deliver(to, nullptr, id, caf::make_message(caf::make_error(transport_error::malformed, wrong)));
    else
      refuse(envelope, transport_error::malformed);
    return;
  }
  ++received_;
  caf::strong_actor_ptr from;
  if (envelope.from != 0) {
    // A message of our own that came back around names one of our actors.
    if (envelope.from_rank == pump_.rank()) from = find(envelope.from);
    if (!from) from = proxy(envelope.from_rank, envelope.from);
  }
  deliver(to, std::move(from), id, std::move(msg));
}

void actor_transport::core::refuse(const actor_envelope& envelope, transport_error code) {
  const auto id = caf::make_message_id(envelope.message_id);
  if (!id.is_request() || envelope.from == 0) return;
  actor_envelope back;
  back.to = envelope.from;
  back.from_rank = pump_.rank();
  back.message_id = id.response_id().integer_value();
  const auto text = "rank " + std::to_string(pump_.rank());
  pump_.push(envelope.from_rank, pack(back, caf::make_message(caf::make_error(code, text))));
}

// -- the end ------------------------------------------------------------------

void actor_transport::core::peer_down(int rank) {
  std::vector<std::pair<caf::strong_actor_ptr, std::uint64_t>> askers;
  std::vector<caf::strong_actor_ptr> dead;
  {
    const std::lock_guard lock{mutex_};
    down_.at(static_cast<std::size_t>(rank)) = true;
    for (auto it = pending_.begin(); it != pending_.end();) {
      if (it->second.rank != rank) {
        ++it;
        continue;
      }
      askers.emplace_back(std::move(it->second.asker), it->first.response);
      it = pending_.erase(it);
    }
    for (auto it = proxies_.lower_bound({rank, 0}); it != proxies_.end() && it->first.first == rank;) {
      dead.push_back(std::move(it->second));
      it = proxies_.erase(it);
    }
    for (auto it = askers_.lower_bound({rank, 0}); it != askers_.end() && it->first.first == rank;) {
      if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(it->second)) dead.push_back(std::move(alive));
      it = askers_.erase(it);
    }
  }
  const auto error = caf::make_error(transport_error::peer_down, "rank " + std::to_string(rank));
  for (const auto& [asker, response] : askers)
    deliver(asker, nullptr, caf::make_message_id(response), caf::make_message(error));
  for (const auto& actor : dead) kill_proxy(actor, error);
}

void actor_transport::core::stop() {
  decltype(pending_) pending;
  decltype(proxies_) proxies;
  decltype(roles_) roles;
  decltype(parked_) parked;
  {
    const std::lock_guard lock{mutex_};
    if (stopped_) return;
    stopped_ = true;
    pending.swap(pending_);
    proxies.swap(proxies_);
    for (const auto& [key, actor] : askers_)
      if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(actor)) proxies.emplace(key, std::move(alive));
    askers_.clear();
    roles.swap(roles_);
    parked.swap(parked_);
    role_of_.clear();
    senders_.clear();
    parked_frames_ = 0;
    parked_bytes_ = 0;
  }
  const auto error = caf::make_error(transport_error::shutting_down, std::string{});
  for (const auto& [key, request] : pending)
    deliver(request.asker, nullptr, caf::make_message_id(key.response), caf::make_message(error));
  for (const auto& [key, actor] : proxies) kill_proxy(actor, error);
}

transport_stats actor_transport::core::stats() const {
  transport_stats out;
  out.sent = sent_;
  out.received = received_;
  out.malformed = malformed_;
  out.undelivered = undelivered_;
  out.stale = stale_;
  return out;
}

}  // namespace fastserve::mpi
