#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "actors/protocol.hpp"
#include "actors/rank_context.hpp"
#include "mpi/actor_transport.hpp"
#include "mpi/environment.hpp"
#include "mpi/message_pump.hpp"

namespace fastserve::actors {

/// All that runs on one rank: message pump, transport, tensor channel, and the actors every rank has. Built
/// on every rank alike; the leader spawns more actors in system().
class rank_host {
 public:
  /// Collective. `context` comes without channel and without its functions but open_weights: they are made
  /// here.
  rank_host(mpi::environment& env, rank_context context);
  rank_host(const rank_host&) = delete;
  rank_host& operator=(const rank_host&) = delete;
  ~rank_host();

  caf::actor_system& system() { return *system_; }
  const rank_context& context() const { return context_; }

  template <class Handle>
  void publish(role as, const Handle& actor) {
    transport_->publish(mpi::role_id{static_cast<std::uint32_t>(as)}, actor);
  }
  template <class Handle>
  Handle resolve(int rank, role as) {
    return transport_->resolve<Handle>(rank, mpi::role_id{static_cast<std::uint32_t>(as)});
  }
  /// Node, executor and cache manager of every rank, in rank order.
  std::vector<node_actor> nodes();
  std::vector<executor_actor> executors();
  std::vector<cache_actor> caches();

  /// A rank is dead: nothing is sent to it or taken from it, what waits for it fails.
  void lose(int rank);
  /// Keeps an actor alive until the pump has stopped, in wait().
  template <class Handle>
  void end_later(const Handle& actor) {
    late_.push_back(caf::actor_cast<caf::actor>(actor));
  }
  mpi::environment& environment() { return env_; }

  /// Leader: tells every rank to leave with this code, itself included.
  void stop_all(int exit_code);
  /// Blocks until the rank was told to leave (nothing), or has to take the leader's place. Other ranks than
  /// the leader.
  std::optional<succeeded> follow();
  /// Blocks until the rank was told to leave; ends its actors, its transport and its pump. Returns the exit
  /// code.
  int wait();

 private:
  void leave(int exit_code);
  void lead(succeeded what);

  mpi::environment& env_;
  rank_context context_;
  std::unique_ptr<caf::actor_system_config> config_;
  std::unique_ptr<caf::actor_system> system_;
  std::unique_ptr<mpi::message_pump> pump_;
  std::unique_ptr<mpi::actor_transport> transport_;
  std::atomic<int> leader_{0};
  cache_actor cache_;
  executor_actor executor_;
  node_actor node_;
  std::vector<caf::actor> late_;
  std::atomic<bool> lossy_{false};

  std::mutex mutex_;
  std::condition_variable left_;
  std::optional<int> exit_code_;
  std::optional<succeeded> succeeded_;
  std::atomic<bool> ending_{false};
  bool ended_ = false;
};

}  // namespace fastserve::actors
