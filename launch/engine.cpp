#include "launch/engine.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "actors/coordinator.hpp"
#include "actors/front_end_actor.hpp"
#include "actors/journal_sender.hpp"
#include "actors/measured_speed.hpp"
#include "actors/rank_host.hpp"
#include "actors/scheduler.hpp"
#include "launch/device_choice.hpp"
#include "launch/measure_ranks.hpp"
#include "launch/model_form.hpp"
#include "launch/rank_threads.hpp"
#include "launch/status_line.hpp"
#include "model/model_folder.hpp"
#include "model/random_source.hpp"
#include "mpi/process_mark.hpp"

namespace fastserve::launch {

namespace {

// NCCL joins different GPUs alone. FASTSERVE_LINK_ONE_GPU=1 has ranks that share one try all the same, for
// tests on machines that have no more: NCCL wants another NCCL_HOSTID for each of them then.
std::string link_device(const std::string& gpu, int rank) {
  const char* wanted = std::getenv("FASTSERVE_LINK_ONE_GPU");
  return wanted != nullptr && std::string_view{wanted} == "1" ? gpu + "/" + std::to_string(rank) : gpu;
}

namespace fs = std::filesystem;

// What each rank sees. A driver takes its time to wake: nobody asks it who does not want to know.
std::vector<visible_gpus> gpus_of_all(const std::string& wish, mpi::environment& env) {
  std::vector<visible_gpus> out;
  for (const auto& text :
       env.allgather(to_text({env.host(), wish == "cpu" ? std::vector<std::string>{} : find_gpus()})))
    out.push_back(gpus_of(text));
  return out;
}

model::architecture architecture_of(const options& settings) {
  return makes_weights_up(settings) ? model::read_architecture(settings.bench.random_weights)
                                    : model::read_model(settings.model);
}

// From this size of a model on, dividing its layers by the ranks' speeds is worth a second of measuring.
constexpr double measured_from_bytes = 1e9;

// Measured or kept from an earlier start; empty: all ranks are taken for equally fast. Every rank learns all
// speeds. Collective.
actors::rank_speeds exchange_speeds(const options& settings, const actors::rank_context& context,
                                    mpi::environment& env) {
  const auto work = actors::work_of(
      context.architecture, {context.compute_type, context.quantize, context.kv_type, context.stored});
  const auto& how = settings.engine.speeds;
  if (how == "equal" || env.size() == 1) return {};
  if (how == "auto" && work.bytes() < measured_from_bytes) return {};
  const actors::speed_cache cache{settings.engine.speeds_dir};
  const auto kind = work.layer.products.front().as;
  const auto key = actors::speed_key(*context.backend, kind, env.local_size());
  auto mine = how == "measure" ? std::nullopt : cache.find(key);
  const auto known = env.allgather(mine ? "known" : "");
  if (std::find(known.begin(), known.end(), "") != known.end()) {  // all measure: they share their hosts
    spdlog::info("measuring the ranks' speeds");
    mine = measure_ranks(*context.backend, {kind}, env);
    if (mine) cache.keep(key, *mine);
  }
  actors::rank_speeds out;
  const auto all = env.allgather(mine ? actors::text_of(*mine) : std::string{});
  for (std::size_t r = 0; r < all.size(); ++r)
    if (auto speed = actors::speed_from(all[r])) out[static_cast<int>(r)] = std::move(*speed);
  return out;
}

void require_enough_ranks(const options& settings, int ranks) {
  const auto replicas = settings.engine.replicas;
  const auto spares = settings.failover.spare_ranks;
  if (replicas <= 1 || replicas <= ranks - spares) return;
  throw std::runtime_error("--replicas " + std::to_string(replicas) + " needs a rank for each" +
                           (spares > 0 ? " besides " + std::to_string(spares) + " as spares" : "") +
                           "; this job has " + std::to_string(ranks));
}

actors::rank_context make_context(const options& settings, mpi::environment& env, int threads,
                                  const device_choice& on, kernels::step_profile& profile) {
  actors::rank_context context;
  context.architecture = architecture_of(settings);
  const auto& arch = context.architecture;
  if (!settings.engine.pack_cache.empty())
    context.packed = std::make_unique<model::pack_cache>(
        settings.engine.pack_cache, [](const std::string& line) { spdlog::warn("{}", line); });
  context.swap_folder = settings.kv_cache.swap_dir;
  const auto& failover = settings.failover;
  context.failover = {std::chrono::milliseconds{failover.heartbeat_ms},
                      std::chrono::milliseconds{failover.deadline_ms},
                      std::chrono::milliseconds{failover.fence_ms},
                      failover.spare_ranks,
                      failover.spares == "hot",
                      settings.what == command::batch && failover.standby == "on",
                      std::chrono::milliseconds{failover.stall_ms}};
  context.memory_sharers = static_cast<std::uint32_t>(on.gpu < 0 ? env.local_size() : on.sharers);
  context.backend = on.gpu >= 0              ? open_gpu(on.gpu)
                    : settings.bench.profile ? kernels::make_profiled_cpu_backend(threads, profile)
                                             : kernels::make_cpu_backend(threads);
  const auto form = form_of(settings, arch, context.backend->multiplies_fp8());
  if (const auto why = form_objection(form, *context.backend, env.rank(), env.host()); !why.empty())
    throw std::runtime_error(why);
  context.compute_type = form.compute;
  context.quantize = form.quantize;
  context.kv_type = form.kv;
  context.stored = form.stored;
  if (on.gpu >= 0 && settings.engine.link != "host") context.device_link = open_gpu_link(on.gpu);
  const auto info = context.backend->info();
  context.profile = {env.rank(),   env.host(),
                     info.name,    info.memory_bytes / context.memory_sharers,
                     info.threads, context.device_link ? link_device(on.gpu_id, env.rank()) : std::string{}};
  if (makes_weights_up(settings))
    context.open_weights = [arch] { return std::make_unique<model::random_source>(arch, arch.stored_type); };
  else
    context.open_weights = [path = fs::path{settings.model}] { return model::open_weights(path); };
  return context;
}

}  // namespace

/// Of the leader, in the host's system.
struct engine::spawned {
  actors::observer_actor observer;
  actors::scheduler_actor scheduler;
  std::vector<actors::front_end_actor> front_ends;
};

engine::engine(mpi::environment& env, const options& settings)
    : settings_{settings}, env_{env}, actors_{std::make_unique<spawned>()} {
  const int threads = choose_threads(settings, env);
  const auto& wish = settings.engine.device;
  const auto gpus = gpus_of_all(wish, env);
  const auto rank = static_cast<std::size_t>(env.rank());
  actors::rank_context context;
  auto error = device_objection(wish, gpus, rank, built_for_gpus());
  try {
    if (error.empty())
      context = make_context(settings, env, threads, choose_devices(wish, gpus)[rank], profile_);
    if (env.leader()) tokenizer_ = model::open_tokenizer(settings.model);
    require_enough_ranks(settings, env.size());
  } catch (const std::exception& e) {
    error = e.what();
  }
  if (const auto failure = env.agree(error)) throw std::runtime_error(failure->text);
  speeds_ = exchange_speeds(settings, context, env);
  host_ = std::make_unique<actors::rank_host>(env, std::move(context));
  env.begun();
}

engine::~engine() {
  if (coordinator_) coordinator_->stop();
  host_ = nullptr;  // before the coordinator: its monitor ends here
}

void engine::leave(const std::string& why) { context().fence(why); }

actors::engine_layout engine::layout() const { return coordinator_->layout(); }

std::string engine::drain(int rank) { return coordinator_->drain(rank); }

const actors::rank_context& engine::context() const { return host_->context(); }

const model::architecture& engine::architecture() const { return context().architecture; }

kernels::dtype engine::compute_type() const { return context().compute_type; }

kernels::dtype engine::product_type() const {
  return context().quantize ? kernels::dtype::q8 : compute_type();
}

int engine::threads() const { return context().profile.threads; }

std::string engine::weights_text() const {
  const auto& format = context().quantize;
  return format ? kernels::to_string(*format) : std::string{kernels::name_of(compute_type())};
}

void engine::make_coordinator() {
  actors::engine_wishes wishes;
  wishes.max_batch = settings_.scheduler.max_batch;
  wishes.token_budget = settings_.scheduler.token_budget;
  wishes.kv_tokens = settings_.kv_cache.kv_tokens;
  wishes.max_context = settings_.engine.max_context;
  wishes.policy = {chosen_policy(settings_), std::chrono::milliseconds{settings_.scheduler.starvation_ms}};
  wishes.prefix_caching = settings_.scheduler.prefix_caching;
  wishes.swap = {settings_.kv_cache.swap_space, settings_.kv_cache.swap_disk};
  wishes.replicas = settings_.engine.replicas;
  wishes.spare_ranks = settings_.failover.spare_ranks;
  wishes.speeds = speeds_;
  wishes.hot_spares = settings_.failover.spares == "hot";
  coordinator_ = std::make_unique<actors::coordinator>(
      *host_, wishes, context().failover,
      [](const std::string& line) { status_line::say("fastserve: " + line + "\n"); });
}

std::string engine::take_over(const actors::succeeded& before) {
  // A leader that was only stopped must not wake up and write: on this machine that can be made sure of.
  for (const auto rank : before.lost)
    if (rank < env_.rank()) mpi::end_process(context().processes[static_cast<std::size_t>(rank)]);
  make_coordinator();
  coordinator_->watch(before);
  try {
    if (!tokenizer_) tokenizer_ = model::open_tokenizer(settings_.model);
  } catch (const std::exception& e) {
    return e.what();
  }
  return {};
}

std::unique_ptr<actors::journal_sender> engine::inform_standby() {
  if (!context().failover.standby || env_.size() < 2) return nullptr;
  return std::make_unique<actors::journal_sender>(*host_, [this] { return coordinator_->footing(); });
}

std::string engine::bring_up(std::function<void(const actors::load_progress&)> report) {
  auto& sys = host_->system();
  actors_->observer = mpi::spawn<actors::observer_actor, actors::observer_state>(sys, std::move(report));
  host_->publish(actors::role::observer, actors_->observer);

  if (!coordinator_) {
    make_coordinator();
    coordinator_->watch();
  }
  const auto layout = coordinator_->start();
  if (!layout.error.empty()) return layout.error;

  spawn_scheduler(layout, layout.limits);
  return {};
}

void engine::spawn_scheduler(const actors::engine_layout& on, const scheduler::limits& limits) {
  actors::scheduler_setup setup;
  setup.pipelines = on.pipelines;
  for (auto& p : setup.pipelines) {
    const auto own = std::exchange(p.limits, limits);
    p.limits.stages = own.stages;
    p.limits.kv_blocks = own.kv_blocks;
    p.limits.swap = own.swap;
    p.limits.ahead = own.ahead;
  }
  setup.first_ticket = schedulers_++ << 40;
  setup.tokenizer = tokenizer_;
  setup.eos_ids = architecture().eos_ids;
  setup.fail = [this](const std::string& why) {
    const std::lock_guard lock{failure_mutex_};
    if (on_failure_) on_failure_(why);
  };
  actors_->scheduler = mpi::spawn_detached<actors::scheduler_actor, actors::scheduler_state>(
      host_->system(), std::move(setup));
  host_->publish(actors::role::scheduler, actors_->scheduler);
  coordinator_->attach(actors_->scheduler, on);
}

void engine::restart_scheduler(const scheduler::limits& limits) {
  close_front_ends();
  caf::scoped_actor self{host_->system()};
  caf::anon_send_exit(actors_->scheduler, caf::exit_reason::user_shutdown);
  self->wait_for(actors_->scheduler);
  spawn_scheduler(layout(), limits);
}

std::size_t engine::loading_ranks() const {
  const auto pipelines = std::max(settings_.engine.replicas, 1);  // at least these, when they are chosen
  const auto ranks = std::max(env_.size() - settings_.failover.spare_ranks, 1);
  std::int32_t out = 0;
  for (std::int32_t i = 0; i < pipelines; ++i)
    out += std::min(ranks / pipelines + (i < ranks % pipelines ? 1 : 0), architecture().layers);
  return static_cast<std::size_t>(out);
}

std::shared_ptr<actors::front_end> engine::spawn_front_end(actors::answer_sink& sink) {
  actors_->front_ends.push_back(mpi::spawn_detached<actors::front_end_actor, actors::front_end_state>(
      host_->system(), actors_->scheduler, sink));
  return actors::front_end_of(actors_->front_ends.back());
}

actors::scheduler_stats engine::stats() {
  actors::scheduler_stats out;
  caf::scoped_actor self{host_->system()};
  mpi::request(self.ptr(), actors_->scheduler, std::chrono::seconds{5}, actors::stats_request{})
      .receive([&](const actors::scheduler_stats& s) { out = s; }, [](const caf::error&) {});
  return out;
}

std::vector<std::vector<actors::executor_stats>> engine::executor_stats() {
  std::vector<std::vector<actors::executor_stats>> out;
  caf::scoped_actor self{host_->system()};
  for (const auto& p : layout().pipelines) {
    if (!p.stands) continue;
    out.emplace_back();
    for (const auto& stage : p.executors)
      mpi::request(self.ptr(), stage, std::chrono::seconds{30}, actors::executor_stats_request{})
          .receive([&](const actors::executor_stats& s) { out.back().push_back(s); },
                   [&](const caf::error&) { out.back().emplace_back(); });
  }
  return out;
}

void engine::set_failure_handler(std::function<void(const std::string&)> handler) {
  const std::lock_guard lock{failure_mutex_};
  on_failure_ = std::move(handler);
}

void engine::close_front_ends() {
  set_failure_handler({});
  caf::scoped_actor self{host_->system()};
  for (auto& f : actors_->front_ends) {
    caf::anon_send_exit(f, caf::exit_reason::user_shutdown);
    self->wait_for(f);
  }
  actors_->front_ends.clear();
}

int engine::finish(int exit_code) {
  const auto shutdown = caf::exit_reason::user_shutdown;
  close_front_ends();
  if (coordinator_) coordinator_->stop();
  if (actors_->scheduler) caf::anon_send_exit(actors_->scheduler, shutdown);
  if (actors_->observer) caf::anon_send_exit(actors_->observer, shutdown);
  actors_->scheduler = nullptr;
  actors_->observer = nullptr;
  host_->stop_all(exit_code);
  const int code = host_->wait();
  coordinator_ = nullptr;  // its monitor has ended with the host
  return code;
}

int engine::follow() { return host_->wait(); }

std::optional<int> engine::follow_or_lead(actors::succeeded& before) {
  // Who would be the first to take over does not read it only then.
  constexpr int first_standby = 1;
  if (env_.rank() == first_standby && context().failover.standby) {
    try {
      tokenizer_ = model::open_tokenizer(settings_.model);
    } catch (const std::exception&) {  // said if it is needed
    }
  }
  if (auto lead = host_->follow()) {
    before = std::move(*lead);
    return std::nullopt;
  }
  return host_->wait();
}

}  // namespace fastserve::launch
