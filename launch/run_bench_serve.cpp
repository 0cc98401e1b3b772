#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "actors/bring_up.hpp"
#include "launch/engine.hpp"
#include "launch/run.hpp"
#include "launch/serve_runs.hpp"
#include "launch/simulated_run.hpp"
#include "launch/startup.hpp"

namespace fastserve::launch {

namespace {

using clock = std::chrono::steady_clock;

double ms_between(clock::time_point from, clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// Times the answers of one run. A request's clock starts when it was due, not when the sender got to it.
class observer final : public actors::answer_sink {
 public:
  observer(const std::vector<workload_item>& load, clock::time_point begin)
      : begin_{begin}, requests_(load.size()), left_{load.size()} {
    for (std::size_t i = 0; i < load.size(); ++i) {
      requests_[i].due =
          begin + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(load[i].at_s));
      requests_[i].prompt_tokens = load[i].prompt_tokens;
    }
  }
  void on_token(const actors::answer_token& token) override {
    const auto now = clock::now();
    const std::lock_guard lock{mutex_};
    auto& r = requests_.at(token.request);
    if (r.tokens++ == 0)
      r.first = now;
    else
      meter_.token_gap(ms_between(r.last, now));
    r.last = now;
  }
  void on_done(const actors::answer_done& done) override {
    const std::lock_guard lock{mutex_};
    const auto& r = requests_.at(done.request);
    if (done.error.empty() && r.tokens > 0) {
      const double ttft_ms = ms_between(r.due, r.first);
      meter_.done({r.prompt_tokens, r.tokens, ttft_ms, ms_between(r.due, r.last)});
      outside_ms_.push_back(ttft_ms - static_cast<double>(done.first_token_ns) / 1e6);
      end_ = std::max(end_, r.last);
    } else {
      meter_.failed();
      if (error_.empty()) error_ = done.error;
    }
    if (--left_ == 0) ended_.notify_all();
  }
  clock::time_point due(std::size_t request) const { return requests_[request].due; }
  void wait() {
    std::unique_lock lock{mutex_};
    ended_.wait(lock, [this] { return left_ == 0; });
    if (!error_.empty()) throw std::runtime_error("a request failed: " + error_);
  }
  /// What of a first token's time lies outside the scheduler: the request's way there, the token's back.
  double front_ms() const { return std::max(spread_of(outside_ms_).median, 0.0); }
  serve_report report(const service_goal& goal) const {
    return meter_.report(ms_between(begin_, end_) / 1e3, goal);
  }

 private:
  struct request {
    clock::time_point due, first, last;
    std::int32_t prompt_tokens = 0;
    std::int32_t tokens = 0;
  };
  std::mutex mutex_;
  std::condition_variable ended_;
  clock::time_point begin_, end_;
  std::vector<request> requests_;
  std::size_t left_;
  serve_meter meter_;
  std::vector<double> outside_ms_;
  std::string error_;
};

actors::submit submission(const workload_item& item, std::size_t index, std::int32_t vocab,
                          std::int32_t block) {
  actors::submit out;
  out.request = index;
  out.prompt = prompt_of(item, index, vocab, block);
  out.sampling.temperature = 0;
  out.stop.max_tokens = item.output_tokens;
  out.stop.ignore_eos = true;
  return out;
}

// The weights' first use and the threads' start belong to no request.
void warm_up(engine& e) {
  std::vector<workload_item> load(4);
  for (auto& item : load) item = {0, 16, 4, {}};
  observer watch{load, clock::now()};
  const auto front_end = e.spawn_front_end(watch);
  for (std::size_t i = 0; i < load.size(); ++i)
    front_end->send(submission(load[i], i, e.architecture().vocab_size, prefix_tokens));
  watch.wait();
}

double us_of(scheduler::time t) { return static_cast<double>(t.count()) / 1e3; }

// The engine as the run just made found it.
simulated_engine calibrated(const scheduler::limits& limits, std::size_t pipelines,
                            const actors::scheduler_stats& seen, double front_ms) {
  simulated_engine out;
  out.cluster.replicas = static_cast<std::int32_t>(pipelines);
  out.limits = limits;
  out.cluster.stage = {seen.step_fixed_ns, seen.step_row_ns, seen.step_draw_ns, seen.step_context_ns};
  out.front_ms = front_ms;
  return out;
}

serve_report serve_once_with(engine& e, const options& settings, const std::string& policy,
                             const std::vector<workload_item>& load, simulated_engine& found) {
  auto limits = e.layout().limits;
  limits.policy.name = policy;
  e.restart_scheduler(limits);
  warm_up(e);
  // Prompts are made before the clock starts.
  std::vector<actors::submit> requests;
  requests.reserve(load.size());
  const auto block = prefix_block(settings.load);
  for (std::size_t i = 0; i < load.size(); ++i)
    requests.push_back(submission(load[i], i, e.architecture().vocab_size, block));

  const auto before = e.stats();
  observer watch{load, clock::now() + std::chrono::milliseconds{10}};
  const auto front_end = e.spawn_front_end(watch);
  // On time whatever the engine does: this is an open loop.
  std::thread sender{[&] {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      std::this_thread::sleep_until(watch.due(i));
      front_end->send(std::move(requests[i]));
    }
  }};
  sender.join();
  try {
    watch.wait();
  } catch (...) {
    e.close_front_ends();
    throw;
  }
  const auto after = e.stats();
  e.close_front_ends();
  auto report = watch.report(parse_goal(settings.load.goodput));
  report.preemptions = after.preemptions - before.preemptions;
  report.prefix_hit_tokens = after.prefix_hit_tokens - before.prefix_hit_tokens;
  report.blocks_out = after.blocks_out - before.blocks_out;
  report.blocks_in = after.blocks_in - before.blocks_in;
  found = calibrated(limits, e.layout().pipelines.size(), after, watch.front_ms());
  if (settings.load.simulate)
    report.simulated =
        std::make_shared<const serve_report>(simulate_load(found, policy, load, settings.load));
  return report;
}

void serve_load(const mpi::environment& env, engine& e, const options& settings) {
  const auto layout = e.layout();
  const auto& limits = layout.limits;
  const auto name = settings.bench.random_weights.empty() ? settings.model : settings.bench.random_weights;
  nlohmann::ordered_json facts{{"backend", "fastserve"},
                               {"model_id", name},
                               {"dtype", e.weights_text()},
                               {"ranks", env.size()},
                               {"threads", e.threads()},
                               {"limits",
                                {{"replicas", layout.pipelines.size()},
                                 {"stages", limits.stages},
                                 {"max_batch", limits.max_batch},
                                 {"token_budget", limits.token_budget},
                                 {"kv_blocks", limits.kv_blocks},
                                 {"max_context", limits.max_context},
                                 {"swap_blocks", limits.swap.memory_slots},
                                 {"swap_disk_blocks", limits.swap.disk_slots},
                                 {"swap_us", us_of(limits.swap.memory_block)},
                                 {"swap_disk_us", us_of(limits.swap.disk_block)}}}};
  simulated_engine last;
  serve_all(
      settings, limits.max_context, std::move(facts),
      [&](const std::string& policy, const std::vector<workload_item>& load) {
        return serve_once_with(e, settings, policy, load, last);
      },
      [&](nlohmann::ordered_json& out) {
        // Of the last run, for simulate --calibrate.
        const auto& costs = last.cluster.stage;
        out["step_costs"] = {{"fixed_us", costs.fixed_ns / 1e3},
                             {"row_us", costs.row_ns / 1e3},
                             {"draw_us", costs.draw_ns / 1e3},
                             {"context_us", costs.context_ns / 1e3},
                             {"front_us", last.front_ms * 1e3}};
      });
}

}  // namespace

int run_bench_serve(mpi::environment& env, const options& settings) {
  return run_with_engine(
      env, settings,
      [&](engine& e) {
        serve_load(env, e, settings);
        return 0;
      },
      [&](const engine& e) { check_load(settings.load, context_of(e, settings)); });
}

}  // namespace fastserve::launch
