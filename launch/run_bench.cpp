#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "actors/unequal_ranks.hpp"
#include "kernels/limits.hpp"
#include "launch/engine.hpp"
#include "launch/prefix_hit.hpp"
#include "launch/run.hpp"
#include "launch/startup.hpp"

namespace fastserve::launch {

namespace {

using clock = std::chrono::steady_clock;

// Counts tokens and knows when each prompt had its first one.
class stopwatch final : public actors::answer_sink {
 public:
  explicit stopwatch(const engine& e) : engine_{e} {}

  void start(int requests) {
    const std::lock_guard lock{mutex_};
    at_begin_ = engine_.profile();
    waiting_first_ = left_ = requests;
    decoded_ = 0;
    error_.clear();
    begin_ = clock::now();
  }
  void on_token(const actors::answer_token& token) override {
    const std::lock_guard lock{mutex_};
    if (waiting_first_ == 0) ++decoded_;
    if (seen_.insert(token.request).second && --waiting_first_ == 0) {
      prefilled_ = clock::now();
      at_prefilled_ = engine_.profile();
    }
  }
  void on_done(const actors::answer_done& done) override {
    const std::lock_guard lock{mutex_};
    if (!done.error.empty() && error_.empty()) error_ = done.error;
    if (--left_ == 0) {
      end_ = clock::now();
      at_end_ = engine_.profile();
      ended_.notify_all();
    }
  }
  std::string wait() {
    std::unique_lock lock{mutex_};
    ended_.wait(lock, [this] { return left_ == 0; });
    return error_;
  }
  double prefill_seconds() const { return std::chrono::duration<double>(prefilled_ - begin_).count(); }
  double decode_seconds() const { return std::chrono::duration<double>(end_ - prefilled_).count(); }
  kernels::step_profile::reading prefill_profile() const { return at_prefilled_ - at_begin_; }
  kernels::step_profile::reading decode_profile() const { return at_end_ - at_prefilled_; }
  /// Rate of the tokens drawn after the last prompt was in.
  double decode_rate() const { return decoded_ > 0 ? decoded_ / decode_seconds() : 0; }

 private:
  const engine& engine_;
  kernels::step_profile::reading at_begin_, at_prefilled_, at_end_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::set<std::uint64_t> seen_;
  int waiting_first_ = 0;
  int left_ = 0;
  std::int64_t decoded_ = 0;
  clock::time_point begin_, prefilled_, end_;
  std::string error_;
};

struct figures {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double turnaround_us = 0;
  double draw_us = 0;  ///< a step
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

std::vector<std::int32_t> random_prompt(std::int32_t tokens, std::int32_t vocab, std::mt19937& random) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(tokens));
  for (auto& t : out) t = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(vocab));
  return out;
}

// Shares of the wall time of the last round, op by op.
void print_profile(const stopwatch& watch, bool decodes) {
  const auto prefill = watch.prefill_profile();
  const auto decode = watch.decode_profile();
  const auto line = [&](const char* name, double of_prefill, double of_decode) {
    std::printf("  %-22s %6.2f %%", name, 100 * of_prefill / watch.prefill_seconds());
    if (decodes) std::printf("   %6.2f %%", 100 * of_decode / watch.decode_seconds());
    std::printf("\n");
  };
  std::printf("where time goes         prefill%s of wall time, on the first rank\n",
              decodes ? "     decode" : "");
  std::int64_t prefill_ns = 0;
  std::int64_t decode_ns = 0;
  for (int op = 0; op < kernels::step_ops; ++op) {
    const auto i = static_cast<std::size_t>(op);
    line(kernels::name_of(static_cast<kernels::step_op>(op)), 1e-9 * static_cast<double>(prefill.op_ns[i]),
         1e-9 * static_cast<double>(decode.op_ns[i]));
    prefill_ns += prefill.op_ns[i];
    decode_ns += decode.op_ns[i];
  }
  line("outside ops", watch.prefill_seconds() - 1e-9 * static_cast<double>(prefill_ns),
       watch.decode_seconds() - 1e-9 * static_cast<double>(decode_ns));
  line("inside: a thread waits", 1e-9 * static_cast<double>(prefill.waited_ns),
       1e-9 * static_cast<double>(decode.waited_ns));
}

// One round: all prompts at once, then every answer to its full length.
figures measure(engine& e, const actors::front_end_actor& front_end, stopwatch& watch,
                const bench_options& bench, std::uint64_t& next_id, std::mt19937& random) {
  std::vector<actors::submit> requests;
  for (std::int32_t i = 0; i < bench.batch; ++i) {
    actors::submit s;
    s.request = next_id++;
    s.prompt = random_prompt(bench.prompt_tokens, e.architecture().vocab_size, random);
    s.sampling.temperature = 0;
    s.stop.max_tokens = std::max(bench.decode_tokens, 1);
    s.stop.ignore_eos = true;
    requests.push_back(std::move(s));
  }
  e.executor_stats();
  watch.start(bench.batch);
  for (auto& r : requests) mpi::anon_send(front_end, std::move(r));
  if (const auto error = watch.wait(); !error.empty()) throw std::runtime_error(error);
  figures out;
  out.prefill_tokens_per_s = double{1} * bench.batch * bench.prompt_tokens / watch.prefill_seconds();
  out.decode_tokens_per_s = watch.decode_rate();
  // The overheads of a pipeline are those of each.
  const auto pipelines = e.executor_stats();
  if (!pipelines.empty() && !pipelines.front().empty()) {
    const auto& stages = pipelines.front();
    out.turnaround_us = static_cast<double>(stages.front().median_turnaround_ns) / 1e3;
    const auto& last = stages.back();
    out.draw_us =
        static_cast<double>(last.draw_ns) / 1e3 / std::max<double>(static_cast<double>(last.steps), 1);
  }
  return out;
}

struct limits {
  double read_bytes_per_s = 0;
  double ops_per_s = 0;  // 0: not known
};

// Of all ranks together: this host's, with as many threads as its ranks have, times the number of hosts; or
// this rank's GPU, times the number of ranks.
limits measure_limits(const mpi::environment& env, const engine& e) {
  auto& backend = *e.context().backend;
  if (backend.info().where.kind == kernels::device_kind::cuda)
    return {env.size() * kernels::measure_copy_bandwidth(backend), 0};
  const int threads = e.threads() * env.local_size();
  const auto hosts = static_cast<double>(env.size()) / env.local_size();
  return {hosts * kernels::measure_read_bandwidth(threads),
          hosts * kernels::measure_peak_ops(e.product_type(), threads)};
}

bool one_host(const engine& e) {
  const auto& rows = e.layout().rows;
  return std::all_of(rows.begin(), rows.end(),
                     [&](const auto& r) { return r.profile.host == rows[0].profile.host; });
}

// Of all pipelines, one behind the other.
std::vector<int> stage_ranks_of(const actors::engine_layout& layout) {
  std::vector<int> out;
  for (const auto& p : layout.pipelines) out.insert(out.end(), p.stage_ranks.begin(), p.stage_ranks.end());
  return out;
}

// What the planner expects of the only pipeline; nothing where speeds were not measured.
std::optional<planner::prediction> expectation(const engine& e, const options& settings) {
  const auto layout = e.layout();
  if (layout.pipelines.size() > 1) return {};
  std::map<int, actors::node_profile> profiles;
  std::vector<planner::stage_place> stages;
  for (const auto rank : stage_ranks_of(layout))
    for (const auto& r : layout.rows) {
      if (r.profile.rank != rank) continue;
      if (!e.speeds().contains(rank)) return {};
      profiles[rank] = r.profile;
      stages.push_back({rank, r.first_layer, r.last_layer});
    }
  planner::plan_wishes w;
  w.prompt_tokens = settings.bench.prompt_tokens;
  w.answer_tokens = std::max(settings.bench.decode_tokens, 1);
  w.token_budget = layout.limits.token_budget;
  return actors::expected_of(e.context(), profiles, e.speeds(), stages, w, settings.bench.batch);
}

std::string beside(double measured, double expected) {
  std::array<char, 80> room{};
  std::snprintf(room.data(), room.size(), "expected %.1f (measured is %+.0f %%)", expected,
                100 * (measured / expected - 1));
  return room.data();
}

std::vector<int> layers_of(const actors::engine_layout& layout) {
  std::vector<int> out;
  for (const auto rank : stage_ranks_of(layout))
    for (const auto& r : layout.rows)
      if (r.profile.rank == rank) out.push_back(r.last_layer - r.first_layer);
  return out;
}

int serve(mpi::environment& env, engine& e, const options& settings) {
  const auto& bench = settings.bench;
  stopwatch watch{e};
  const struct closer {
    engine& e;
    ~closer() { e.close_front_ends(); }
  } close{e};
  const auto front_end = e.spawn_front_end(watch);
  std::mt19937 random{1};
  std::uint64_t next_id = 1;

  auto warm_up = bench;
  warm_up.batch = 1;
  warm_up.decode_tokens = std::min(bench.decode_tokens, 4);
  measure(e, front_end, watch, warm_up, next_id, random);

  std::vector<double> prefill, decode, turnaround, draw, bandwidth, ops;
  for (std::int32_t i = 0; i < bench.repeat; ++i) {
    const auto limit = measure_limits(env, e);
    bandwidth.push_back(limit.read_bytes_per_s);
    ops.push_back(limit.ops_per_s);
    const auto f = measure(e, front_end, watch, bench, next_id, random);
    prefill.push_back(f.prefill_tokens_per_s);
    decode.push_back(f.decode_tokens_per_s);
    turnaround.push_back(f.turnaround_us);
    draw.push_back(f.draw_us);
  }

  e.close_front_ends();
  std::optional<prefix_hit> hit;
  if (settings.scheduler.prefix_caching) hit = measure_prefix_hit(e, bench.prompt_tokens);

  std::uint64_t weights = 0;
  std::uint64_t step_bytes = 0;
  for (const auto& r : e.layout().rows) {
    weights += r.weight_bytes;
    step_bytes += r.step_bytes;
  }
  const auto& arch = e.architecture();
  const auto token_ops =
      2.0 * (static_cast<double>(arch.layers) * static_cast<double>(arch.layer_parameters()));
  const auto layout = e.layout();
  // Each pipeline has its share of the sequences; with fewer of them than pipelines some have none.
  const auto pipelines = static_cast<double>(layout.pipelines.size());
  const auto busy_bytes =
      static_cast<double>(step_bytes) * std::min<double>(bench.batch, pipelines) / pipelines;
  const auto steps_per_s = median(decode) / bench.batch;
  const auto name = bench.random_weights.empty() ? settings.model : bench.random_weights;

  const auto expected = expectation(e, settings);
  if (bench.json) {
    nlohmann::ordered_json line{{"model", name},
                                {"dtype", e.weights_text()},
                                {"ranks", env.size()},
                                {"replicas", layout.pipelines.size()},
                                {"stages", layout.limits.stages},
                                {"threads", e.threads()},
                                {"prompt_tokens", bench.prompt_tokens},
                                {"decode_tokens", bench.decode_tokens},
                                {"batch", bench.batch},
                                {"repeat", bench.repeat},
                                {"prefill_tokens_per_s", median(prefill)},
                                {"decode_tokens_per_s", median(decode)},
                                {"weight_bytes", weights},
                                {"weight_bytes_read_per_s", steps_per_s * busy_bytes},
                                {"read_bandwidth_bytes_per_s", median(bandwidth)},
                                {"peak_ops_per_s", median(ops)},
                                {"turnaround_us", one_host(e) ? median(turnaround) : 0},
                                {"draw_us", median(draw)},
                                {"stage_ranks", stage_ranks_of(layout)},
                                {"stage_layers", layers_of(layout)}};
    if (expected) {
      line["expected_prefill_tokens_per_s"] = expected->prefill_tokens_per_s;
      line["expected_decode_tokens_per_s"] = expected->decode_tokens_per_s;
    }
    if (hit) {
      line["prefix_hit_ttft_us"] = hit->first_token_us;
      line["prefix_hit_step_us"] = hit->step_us;
    }
    std::printf("%s\n", line.dump().c_str());
    return 0;
  }
  std::printf("model            %s, %s, %d rank(s) in %d pipeline(s) of %d stage(s), %d thread(s) each\n",
              name.c_str(), e.weights_text().c_str(), env.size(), static_cast<int>(layout.pipelines.size()),
              layout.limits.stages, e.threads());
  std::printf("workload         %d sequence(s), %d prompt tokens, %d answer tokens; median of %d\n",
              bench.batch, bench.prompt_tokens, bench.decode_tokens, bench.repeat);
  if (median(ops) > 0)
    std::printf("prefill          %10.1f tokens/s   %5.1f%% of the peak multiply-add rate (%.0f Gop/s)\n",
                median(prefill), 100 * median(prefill) * token_ops / median(ops), median(ops) / 1e9);
  else
    std::printf("prefill          %10.1f tokens/s   %.0f Gop/s\n", median(prefill),
                median(prefill) * token_ops / 1e9);
  std::printf("decode           %10.1f tokens/s   %5.1f%% of the read bandwidth (%.1f GB/s), weights alone\n",
              median(decode), 100 * steps_per_s * busy_bytes / median(bandwidth), median(bandwidth) / 1e9);
  std::printf("weights          %10.1f MB\n", static_cast<double>(weights) / 1e6);
  if (one_host(e) && median(turnaround) > 0)
    std::printf(
        "actor overhead   %10.1f us         from the last stage's token to the first stage's next start\n",
        median(turnaround));
  // What a pipeline of several stages hides, a single one does not.
  const double step_us = 1e6 * bench.batch / std::max(median(decode), 1e-9);
  if (layout.limits.stages == 1)
    std::printf(
        "outside kernels  %10.2f %%          of a decode step of %.1f ms: actors, and %.0f us of drawing\n",
        100 * (median(turnaround) + median(draw)) / step_us, step_us / 1e3, median(draw));
  if (hit)
    std::printf(
        "prefix hit       %10.2f ms         to the first token of a cached prompt: %.2f of a decode step\n",
        hit->first_token_us / 1e3, hit->first_token_us / hit->step_us);
  if (expected) {
    std::string cut;
    for (const auto n : layers_of(layout)) cut += (cut.empty() ? "" : " + ") + std::to_string(n);
    std::printf("by measured speeds, %s layers:\n", cut.c_str());
    std::printf("  prefill        %s\n", beside(median(prefill), expected->prefill_tokens_per_s).c_str());
    std::printf("  decode         %s\n", beside(median(decode), expected->decode_tokens_per_s).c_str());
  }
  if (bench.profile) print_profile(watch, bench.decode_tokens > 1);
  return 0;
}

}  // namespace

int run_bench(mpi::environment& env, const options& settings) {
  engine e{env, settings};
  if (!env.leader()) return e.follow();
  int code = 1;
  try {
    if (start_engine(e)) code = serve(env, e, settings);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fastserve: %s\n", error.what());
  }
  std::fflush(stdout);
  return e.finish(code);
}

}  // namespace fastserve::launch
