#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "actors/front_end.hpp"
#include "actors/rank_speed.hpp"
#include "kernels/profile.hpp"
#include "launch/options.hpp"
#include "model/architecture.hpp"
#include "model/tokenizer/tokenizer.hpp"
#include "mpi/environment.hpp"

namespace fastserve::actors {
class coordinator;
class journal_sender;
class rank_host;
struct engine_layout;
struct rank_context;
struct succeeded;
}  // namespace fastserve::actors

namespace fastserve::scheduler {
struct limits;
}

namespace fastserve::launch {

/// A rank's part in the job, from options to a served model. Every rank makes one; the leader then brings the
/// engine up and serves, the others follow. Front ends know the engine and its messages, and no actor.
class engine {
 public:
  /// Collective. Throws std::runtime_error, on all ranks with the same text, when any of them cannot take
  /// part.
  engine(mpi::environment& env, const options& settings);
  ~engine();

  // -- leader ---------------------------------------------------------------

  /// See mpi::environment.
  bool ends_with_neighbours() const { return env_.ends_with_neighbours(); }
  /// Makes a rank that follow_or_lead() told to lead the leader: the others hear of it at once. To be
  /// followed by bring_up(). Returns an empty text, or why there can be no engine.
  std::string take_over(const actors::succeeded& before);
  /// Keeps the standby informed; null without one. Ends before the engine.
  std::unique_ptr<actors::journal_sender> inform_standby();
  /// Ends this process at once, without a word: the job is another leader's.
  void leave(const std::string& why);

  /// Loads the model over all ranks. `report` hears about loading from an actor's thread. Returns an empty
  /// text, or why there is no engine.
  std::string bring_up(std::function<void(const actors::load_progress&)> report);
  /// The pipelines that stand; others after a rank was lost. See actors/bring_up.hpp.
  actors::engine_layout layout() const;
  const model::architecture& architecture() const;
  /// Null for a model without tokenizer files.
  const model::tokenizer* tokenizer() const { return tokenizer_.get(); }
  /// Ranks that get layers to load; at least, as long as the number of pipelines is to be chosen.
  std::size_t loading_ranks() const;
  /// Starts the scheduler afresh with these limits (those of layout() but for the policy), on the same stages
  /// and KV stores. No request may be open; ends the front ends.
  void restart_scheduler(const scheduler::limits& limits);
  /// After bring_up(), as what follows. The sink outlives it.
  std::shared_ptr<actors::front_end> spawn_front_end(actors::answer_sink& sink);
  actors::scheduler_stats stats();
  /// Of each pipeline's stages, in order; since the last call.
  std::vector<std::vector<actors::executor_stats>> executor_stats();
  /// Empties a rank without losing a request. Returns why that cannot be; otherwise it is done in the
  /// background.
  std::string drain(int rank);
  /// To be called, from an actor's thread, when the job cannot go on. Replaces an earlier one.
  void set_failure_handler(std::function<void(const std::string& why)> handler);
  /// Ends the front ends and forgets the failure handler: neither is called any more when it returns.
  void close_front_ends();
  /// Ends all ranks; returns the exit code that this rank ends with.
  int finish(int exit_code);

  // -- the other ranks ------------------------------------------------------

  /// Serves until the leader ends the job; returns the exit code.
  int follow();
  /// The same, but returns nothing when the leader is lost and this rank has to take its place; `before` is
  /// what it knows then.
  std::optional<int> follow_or_lead(actors::succeeded& before);

  const actors::rank_context& context() const;
  /// Of all ranks, as measured; empty when they are taken for equally fast.
  const actors::rank_speeds& speeds() const { return speeds_; }
  kernels::dtype compute_type() const;
  /// What the weights are made of: "bf16"; "int8, group 128, f16 scales".
  std::string weights_text() const;
  /// The type whose multiply-add rate bounds products.
  kernels::dtype product_type() const;
  int threads() const;
  /// Of this rank's ops; all zero unless options.bench.profile.
  kernels::step_profile::reading profile() const { return profile_.read(); }

 private:
  struct spawned;

  void make_coordinator();
  void spawn_scheduler(const actors::engine_layout& on, const scheduler::limits& limits);

  const options& settings_;
  mpi::environment& env_;
  actors::rank_speeds speeds_;
  kernels::step_profile profile_;  // outlives the backend of host_
  std::unique_ptr<actors::rank_host> host_;
  std::shared_ptr<const model::tokenizer> tokenizer_;
  std::unique_ptr<actors::coordinator> coordinator_;
  std::unique_ptr<spawned> actors_;
  std::uint64_t schedulers_ = 0;  // so many were started
  std::mutex failure_mutex_;
  std::function<void(const std::string&)> on_failure_;
};

}  // namespace fastserve::launch
