#include "mpi/actor_transport.hpp"

#include <stdexcept>
#include <string>
#include <vector>

#include "mpi/transport_core.hpp"

namespace fastserve::mpi {

actor_transport::actor_transport(caf::actor_system& sys, message_pump& pump, transport_options options)
    : core_{std::make_shared<core>(sys, pump, options)} {
  // Weak: the pump outlives us.
  pump.set_handler(channel::actors, [weak = std::weak_ptr<core>{core_}](frame&& what) {
    if (auto self = weak.lock()) self->receive(std::move(what));
  });
}

actor_transport::~actor_transport() { stop(); }

void actor_transport::publish_ptr(role_id role, caf::strong_actor_ptr actor) {
  if (!actor) throw std::runtime_error("publish of an empty actor handle");
  // On the MPI thread, so that messages which came early stay in front of those that come now.
  core_->pump().run([&] { core_->publish(role, std::move(actor)); });
}

void actor_transport::unpublish(role_id role) {
  core_->pump().run([&] { core_->unpublish(role); });
}

void actor_transport::seal() {
  core_->pump().run([&] { core_->seal(); });
}

caf::strong_actor_ptr actor_transport::resolve_ptr(int rank, role_id role) {
  if (rank < 0 || rank >= core_->pump().size())
    throw std::runtime_error("no rank " + std::to_string(rank) + " among " +
                             std::to_string(core_->pump().size()));
  if (rank == core_->pump().rank())
    if (auto local = core_->published(role)) return local;
  return core_->proxy(rank, address_of(role));
}

void actor_transport::on_peer_down(int rank) {
  core_->peer_down(rank);
  core_->pump().drop_peer(rank);
}

void actor_transport::stop() { core_->stop(); }

transport_stats actor_transport::stats() const { return core_->stats(); }

}  // namespace fastserve::mpi
