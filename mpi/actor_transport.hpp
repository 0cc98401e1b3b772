#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "mpi/caf_compat.hpp"
#include "mpi/errors.hpp"
#include "mpi/message_pump.hpp"

namespace fastserve::mpi {

/// A well-known part that an actor plays on a rank; the numbers are the application's.
enum class role_id : std::uint32_t {};

struct transport_options {
  /// Messages kept for roles that are not there yet, all roles together.
  std::size_t max_parked_frames = 4096;
  std::size_t max_parked_bytes = std::size_t{64} << 20;
};

/// Counters since the start.
struct transport_stats {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t malformed = 0;    ///< dropped: not to be read
  std::uint64_t undelivered = 0;  ///< nobody at that address; requests among them got an error
  std::uint64_t stale = 0;        ///< responses that nobody waits for any more
};

/// Actor messages between ranks. A handle from resolve() is used like one of a local actor, typed or not:
/// messages, requests, responses and errors cross by themselves. Messages are serialised in the sender's
/// thread, sent by the pump, and put into the receiver's mailbox by the pump of its rank, in order per
/// sender.
///
/// Bounds of what crosses:
///  - every type must be registered (mpi::register_messages) and actor handles must not be inside messages:
///    name an actor by {rank, role};
///  - a monitor on a remote handle fires when its rank is declared dead, not when the actor alone ends;
///    requests to an actor that has ended get transport_error::unknown_actor;
///  - frames carry no epoch, since heartbeats must cross: messages name theirs themselves.
class actor_transport {
 public:
  /// Takes the actors' channel of `pump`, which must not have been started. Both must outlive the transport.
  actor_transport(caf::actor_system& sys, message_pump& pump, transport_options options = {});
  actor_transport(const actor_transport&) = delete;
  actor_transport& operator=(const actor_transport&) = delete;
  /// Stops.
  ~actor_transport();

  /// Makes a local actor known as {this rank, role}; what came for it before is delivered now. Replaces an
  /// earlier one. The transport holds the actor until unpublish() or stop().
  template <class Handle>
  void publish(role_id role, const Handle& actor) {
    publish_ptr(role, caf::actor_cast<caf::strong_actor_ptr>(actor));
  }
  /// Messages to the role are answered with transport_error::unknown_role from now on.
  void unpublish(role_id role);
  /// All roles of this rank are published: messages to others, and those that wait, get an error at once in
  /// place of being kept.
  void seal();

  /// The actor that plays `role` on `rank`, whether it is there yet or not. `Handle` must be the interface
  /// that it was published with. On this rank the actor itself, if published already.
  template <class Handle>
  Handle resolve(int rank, role_id role) {
    return caf::actor_cast<Handle>(resolve_ptr(rank, role));
  }

  /// Declares a rank dead: requests to it fail with transport_error::peer_down, now and later, monitors of
  /// its actors fire, and nothing is sent to it or taken from it.
  void on_peer_down(int rank);

  /// Fails what is pending with transport_error::shutting_down and lets all actors go. Before the actor
  /// system or the pump end.
  void stop();

  transport_stats stats() const;

  class core;

 private:
  void publish_ptr(role_id role, caf::strong_actor_ptr actor);
  caf::strong_actor_ptr resolve_ptr(int rank, role_id role);

  std::shared_ptr<core> core_;
};

}  // namespace fastserve::mpi
