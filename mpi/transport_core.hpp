#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mpi/actor_transport.hpp"

namespace fastserve::mpi {

/// Actors are named on the wire by their CAF id, or by their role with this bit set.
inline constexpr std::uint64_t role_bit = std::uint64_t{1} << 63;

/// A map of weak pointers of this size is looked through for actors that nobody holds.
inline constexpr std::size_t first_sweep = 256;

inline std::uint64_t address_of(role_id role) { return role_bit | static_cast<std::uint32_t>(role); }

/// What stands before the serialised message in a frame of the actors' channel.
struct actor_envelope {
  std::uint64_t from = 0;        ///< address, 0 = nobody
  std::uint64_t to = 0;          ///< address
  std::uint64_t message_id = 0;  ///< CAF's: request, response or neither
  std::int32_t from_rank = 0;    ///< where `from` lives: not always where the frame comes from
  std::uint32_t reserved = 0;
};
static_assert(sizeof(actor_envelope) == 32);

/// The tables behind an actor_transport. Shared with the proxies, which may outlive it.
///
/// Lock order: never call into CAF's enqueue or into the pump while holding `mutex_`: both may come back
/// here.
class actor_transport::core : public std::enable_shared_from_this<actor_transport::core> {
 public:
  core(caf::actor_system& sys, message_pump& pump, transport_options options);

  message_pump& pump() { return pump_; }

  // MPI thread only (through pump().run).
  void publish(role_id role, caf::strong_actor_ptr actor);
  void unpublish(role_id role);
  void seal();
  void receive(frame&& what);

  // Any thread.
  caf::strong_actor_ptr published(role_id role) const;
  caf::strong_actor_ptr proxy(int rank, std::uint64_t address);
  void ship(const remote_proxy& to, caf::strong_actor_ptr from, caf::message_id id, const caf::message& msg);
  void peer_down(int rank);
  void stop();
  transport_stats stats() const;

 private:
  struct request_key {
    std::uint64_t actor;     ///< who asked
    std::uint64_t response;  ///< message id of the answer
    friend auto operator<=>(const request_key&, const request_key&) = default;
  };
  struct pending_request {
    int rank;
    caf::strong_actor_ptr asker;  ///< keeps it alive: nobody else may
  };

  void register_sender(const caf::strong_actor_ptr& from, actor_envelope& out,
                       std::vector<caf::strong_actor_ptr>& release);
  caf::strong_actor_ptr find(std::uint64_t address);
  caf::strong_actor_ptr take_pending(std::uint64_t actor, std::uint64_t response);
  void park(std::uint64_t address, frame&& what, const actor_envelope& envelope);
  void hand_over(const caf::strong_actor_ptr& to, const frame& what, const actor_envelope& envelope);
  void refuse(const actor_envelope& envelope, transport_error code);
  static void fail_local(const caf::strong_actor_ptr& asker, caf::message_id id, transport_error code,
                         const std::string& text);
  frame pack(const actor_envelope& envelope, const caf::message& msg);

  caf::actor_system& sys_;
  message_pump& pump_;
  transport_options options_;

  mutable std::mutex mutex_;
  bool stopped_ = false;
  bool sealed_ = false;
  std::vector<bool> down_;
  std::unordered_map<std::uint64_t, caf::strong_actor_ptr> roles_;  // by address
  std::unordered_map<std::uint64_t, std::uint64_t> role_of_;        // actor id -> address
  std::unordered_map<std::uint64_t, bool> gone_roles_;              // unpublished
  std::unordered_map<std::uint64_t, caf::weak_actor_ptr> senders_;  // by actor id
  std::size_t sweep_at_ = first_sweep;
  std::map<std::pair<int, std::uint64_t>, caf::strong_actor_ptr>
      proxies_;  // of roles, asked for time and again
  // Of others, most of which wait for one answer: forgotten some time after their last handle.
  std::map<std::pair<int, std::uint64_t>, caf::weak_actor_ptr> askers_;
  std::size_t sweep_askers_at_ = first_sweep;
  std::map<request_key, pending_request> pending_;
  std::unordered_map<std::uint64_t, std::deque<frame>> parked_;  // by address
  std::size_t parked_frames_ = 0;
  std::size_t parked_bytes_ = 0;

  std::atomic<std::uint64_t> sent_{0}, received_{0}, malformed_{0}, undelivered_{0}, stale_{0};
};

}  // namespace fastserve::mpi
