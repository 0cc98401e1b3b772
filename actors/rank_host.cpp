#include "actors/rank_host.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

#include "actors/cache_manager.hpp"
#include "actors/executor.hpp"
#include "actors/node.hpp"
#include "mpi/build_check.hpp"
#include "mpi/mpi_tensor_channel.hpp"

namespace fastserve::actors {

namespace {

// Node and bring-up requests are rare; what is frequent has threads of its own.
constexpr std::size_t scheduler_threads = 1;

// How long a rank waits at the end for the others to have nothing more to say.
constexpr std::chrono::seconds stop_deadline{10};

// The deadline of a rank with a bad network grows up to this many times (actors/liveness).
constexpr int most_deadlines = 10;

// Without MPI_Finalize, which hangs when a rank is gone, nothing else lets the last words arrive.
constexpr std::chrono::milliseconds last_words{100};

}  // namespace

rank_host::rank_host(mpi::environment& env, rank_context context) : env_{env}, context_{std::move(context)} {
  mpi::require_same_build(env_, caf::id_block::fastserve::end, FASTSERVE_VERSION);
  mpi::init_types<caf::id_block::fastserve_mpi, caf::id_block::fastserve>();
  config_ = std::make_unique<caf::actor_system_config>();
  mpi::register_messages<caf::id_block::fastserve_mpi, caf::id_block::fastserve>(*config_);
  mpi::register_error<mpi::transport_error>(*config_);
  mpi::set_scheduler(*config_, scheduler_threads);
  system_ = std::make_unique<caf::actor_system>(*config_);

  pump_ = std::make_unique<mpi::message_pump>(env_);
  transport_ = std::make_unique<mpi::actor_transport>(*system_, *pump_);
  context_.channel = std::make_unique<mpi::mpi_tensor_channel>(*pump_);
  if (context_.device_link) {
    auto linked = std::make_unique<mpi::linked_tensor_channel>(std::move(context_.channel),
                                                               std::move(context_.device_link), env_.rank(),
                                                               most_deadlines * context_.failover.deadline);
    context_.linked = linked.get();
    context_.channel = std::move(linked);
  }
  context_.leave = [this](int code) { leave(code); };
  context_.processes = env_.processes();
  if (context_.failover.stall.count() > 0) context_.datagrams = std::make_unique<mpi::datagrams>(env_);
  context_.report_progress = [this](const load_progress& p) {
    mpi::anon_send(resolve<observer_actor>(leader_, role::observer), p);
  };
  context_.node_of = [this](int rank) { return resolve<node_actor>(rank, role::node); };
  context_.monitor_of = [this](int rank) { return resolve<monitor_actor>(rank, role::monitor); };
  context_.follow = [this](int rank) { leader_ = rank; };
  context_.lead = [this](succeeded what) { lead(std::move(what)); };
  context_.lose = [this](int rank) { lose(rank); };
  context_.stalled_for = [this] { return pump_->stalled_for(); };
  context_.begin_epoch = [this](std::uint32_t epoch) {
    context_.vitals->epoch = epoch;
    pump_->set_epoch(epoch);
    context_.channel->end_epoch(epoch - 1);
  };
  context_.fence = [this](const std::string& why) {
    // Without a word to the others: they go on without this rank, or are gone themselves. The end of the
    // process frees its memory, on devices too. With 0: some launchers end the job of a rank that ends with
    // anything else. But a leader whom nobody follows is the job.
    const bool all = leader_ == env_.rank() && !context_.failover.standby;
    std::fprintf(stderr, "fastserve: rank %d (%s) leaves: %s\n", env_.rank(), env_.host().c_str(),
                 why.c_str());
    std::_Exit(all ? 1 : 0);
  };
  pump_->set_fence_handler([this](int by) {
    context_.fence("it was silent for so long that rank " + std::to_string(by) + " goes on without it");
  });
  pump_->set_failure_handler([this](const std::string& why) {
    if (!ending_) context_.fence("MPI failed: " + why);
  });
  mpi::on_thrown() = [this](const std::string& why) { context_.fence(why); };
  pump_->start();

  cache_ = mpi::spawn_detached<cache_actor, cache_manager_state>(*system_, context_);
  executor_ = mpi::spawn_detached<executor_actor, executor_state>(*system_, context_, cache_);
  node_ = mpi::spawn_detached<node_actor, node_state>(*system_, context_, executor_, cache_);
  publish(role::cache_manager, cache_);
  publish(role::executor, executor_);
  publish(role::node, node_);
}

rank_host::~rank_host() {
  if (ended_) return;
  leave(1);
  wait();
}

std::vector<node_actor> rank_host::nodes() {
  std::vector<node_actor> out;
  for (int r = 0; r < env_.size(); ++r) out.push_back(resolve<node_actor>(r, role::node));
  return out;
}

std::vector<executor_actor> rank_host::executors() {
  std::vector<executor_actor> out;
  for (int r = 0; r < env_.size(); ++r) out.push_back(resolve<executor_actor>(r, role::executor));
  return out;
}

std::vector<cache_actor> rank_host::caches() {
  std::vector<cache_actor> out;
  for (int r = 0; r < env_.size(); ++r) out.push_back(resolve<cache_actor>(r, role::cache_manager));
  return out;
}

void rank_host::lose(int rank) {
  lossy_ = true;
  pump_->drop_peer(rank);
  transport_->on_peer_down(rank);
}

void rank_host::stop_all(int exit_code) {
  for (const auto& node : nodes()) mpi::anon_send(node, stop_rank{exit_code});
}

void rank_host::leave(int exit_code) {
  const std::lock_guard lock{mutex_};
  if (!exit_code_) exit_code_ = exit_code;
  left_.notify_all();
}

void rank_host::lead(succeeded what) {
  const std::lock_guard lock{mutex_};
  succeeded_ = std::move(what);
  left_.notify_all();
}

std::optional<succeeded> rank_host::follow() {
  std::unique_lock lock{mutex_};
  left_.wait(lock, [this] { return exit_code_ || succeeded_; });
  if (exit_code_) return std::nullopt;
  return std::exchange(succeeded_, std::nullopt);
}

int rank_host::wait() {
  std::unique_lock lock{mutex_};
  left_.wait(lock, [this] { return exit_code_.has_value(); });
  const int code = *exit_code_;
  lock.unlock();
  if (std::exchange(ended_, true)) return code;

  ending_ = true;  // an error of MPI is told by stop()
  // The pump first: what is on its way still finds its actors, and the leader's words reach every rank.
  const auto stopped = pump_->stop(stop_deadline);
  if (lossy_) {
    env_.skip_finalize();
    std::this_thread::sleep_for(last_words);
  }
  transport_->stop();
  const auto shutdown = caf::exit_reason::user_shutdown;
  caf::anon_send_exit(node_, shutdown);
  {
    // On its own thread it may be in the middle of finding the leader by way of the transport.
    caf::scoped_actor self{*system_};
    self->wait_for(node_);
  }
  caf::anon_send_exit(executor_, shutdown);
  caf::anon_send_exit(cache_, shutdown);
  for (const auto& actor : late_) caf::anon_send_exit(actor, shutdown);
  late_.clear();
  node_ = nullptr;
  executor_ = nullptr;
  cache_ = nullptr;
  transport_.reset();
  system_.reset();
  return stopped.clean ? code : std::max(code, 1);
}

}  // namespace fastserve::actors
