#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "actors/bring_up.hpp"
#include "actors/median.hpp"
#include "actors/unequal_ranks.hpp"
#include "kernels/limits.hpp"
#include "kernels/parts.hpp"
#include "launch/bench_report.hpp"
#include "launch/engine.hpp"
#include "launch/fitted_lengths.hpp"
#include "launch/prefix_hit.hpp"
#include "launch/run.hpp"
#include "launch/startup.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

using actors::median;
using clock = std::chrono::steady_clock;

// Counts tokens and knows when each prompt had its first one. Decoding is timed from the last of those on,
// until `decoded` further tokens came: then the answers go on, so that all sequences decode all the time, and
// are to be cancelled.
class stopwatch final : public actors::answer_sink {
 public:
  explicit stopwatch(const engine& e) : engine_{e} {}

  void start(int requests, std::int64_t decoded, std::function<void()> cancel) {
    const std::lock_guard lock{mutex_};
    at_begin_ = engine_.profile();
    waiting_first_ = left_ = requests;
    decoded_ = 0;
    wanted_ = decoded;
    timed_ = false;
    cancel_ = std::move(cancel);
    error_.clear();
    begin_ = clock::now();
  }
  void on_token(const actors::answer_token& token) override {
    const std::lock_guard lock{mutex_};
    if (timed_) return;
    if (waiting_first_ == 0) ++decoded_;
    if (seen_.insert(token.request).second && --waiting_first_ == 0) {
      prefilled_ = clock::now();
      at_prefilled_ = engine_.profile();
    }
    if (waiting_first_ == 0 && decoded_ >= wanted_) {
      stop();
      cancel_();
    }
  }
  void on_done(const actors::answer_done& done) override {
    const std::lock_guard lock{mutex_};
    if (!done.error.empty() && error_.empty()) error_ = done.error;
    if (--left_ > 0) return;
    if (!timed_) stop();
    ended_.notify_all();
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
  void stop() {
    end_ = clock::now();
    at_end_ = engine_.profile();
    timed_ = true;
  }

  const engine& engine_;
  kernels::step_profile::reading at_begin_, at_prefilled_, at_end_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::set<std::uint64_t> seen_;
  int waiting_first_ = 0;
  int left_ = 0;
  std::int64_t decoded_ = 0;
  std::int64_t wanted_ = 0;
  bool timed_ = false;
  std::function<void()> cancel_;
  clock::time_point begin_, prefilled_, end_;
  std::string error_;
};

// All prompts at once, then `decode_tokens` of each answer, the first one among them.
struct workload {
  std::int32_t batch = 1;
  std::int32_t prompt_tokens = 1;
  std::int32_t decode_tokens = 1;
};

struct figures {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double turnaround_us = 0;
  double draw_us = 0;  ///< a step
};

std::vector<std::int32_t> random_prompt(std::int32_t tokens, std::int32_t vocab, std::mt19937& random) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(tokens));
  for (auto& t : out) t = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(vocab));
  return out;
}

/// An op's share of the wall time of the last round.
struct op_share {
  const char* name;
  double prefill, decode;
};

std::vector<op_share> profile_of(const stopwatch& watch) {
  const auto prefill = watch.prefill_profile();
  const auto decode = watch.decode_profile();
  std::vector<op_share> out;
  const auto line = [&](const char* name, double of_prefill, double of_decode) {
    out.push_back({name, of_prefill / watch.prefill_seconds(), of_decode / watch.decode_seconds()});
  };
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
  return out;
}

void print_profile(const std::vector<op_share>& profile, bool decodes) {
  std::printf("where time goes         prefill%s of wall time, on the first rank\n",
              decodes ? "     decode" : "");
  for (const auto& op : profile) {
    std::printf("  %-22s %6.2f %%", op.name, 100 * op.prefill);
    if (decodes) std::printf("   %6.2f %%", 100 * op.decode);
    std::printf("\n");
  }
}

nlohmann::ordered_json profile_json(const std::vector<op_share>& profile, bool decodes) {
  nlohmann::ordered_json out;
  for (const auto& op : profile) {
    out[op.name]["prefill"] = op.prefill;
    if (decodes) out[op.name]["decode"] = op.decode;
  }
  return out;
}

// One round.
figures measure(engine& e, actors::front_end& front_end, stopwatch& watch, const workload& bench,
                std::uint64_t& next_id, std::mt19937& random) {
  const auto decode_tokens = std::max(bench.decode_tokens, 1);
  // While the others' prompts are computed, an answer that has begun gets a token with each of their chunks.
  const auto least_chunk = static_cast<std::int64_t>(planner::plan_wishes{}.least_chunk);
  const auto ahead = std::int64_t{bench.batch - 1} * kernels::parts(bench.prompt_tokens, least_chunk);
  const auto max_tokens = static_cast<std::int32_t>(std::min<std::int64_t>(decode_tokens + ahead, 1 << 30));
  const auto first_id = next_id;
  std::vector<actors::submit> requests;
  for (std::int32_t i = 0; i < bench.batch; ++i) {
    actors::submit s;
    s.request = next_id++;
    s.prompt = random_prompt(bench.prompt_tokens, e.architecture().vocab_size, random);
    s.sampling.temperature = 0;
    s.stop.max_tokens = max_tokens;
    s.stop.ignore_eos = true;
    requests.push_back(std::move(s));
  }
  e.executor_stats();
  watch.start(bench.batch, std::int64_t{bench.batch} * (decode_tokens - 1), [&front_end, first_id, &bench] {
    for (std::int32_t i = 0; i < bench.batch; ++i)
      front_end.send(actors::cancel{first_id + static_cast<std::uint64_t>(i)});
  });
  for (auto& r : requests) front_end.send(std::move(r));
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
std::optional<planner::prediction> expectation(const engine& e, const workload& load) {
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
  w.prompt_tokens = load.prompt_tokens;
  w.answer_tokens = std::max(load.decode_tokens, 1);
  w.token_budget = layout.limits.token_budget;
  return actors::expected_of(e.context(), profiles, e.speeds(), stages, w, load.batch);
}

std::vector<int> layers_of(const actors::engine_layout& layout) {
  std::vector<int> out;
  for (const auto rank : stage_ranks_of(layout))
    for (const auto& r : layout.rows)
      if (r.profile.rank == rank) out.push_back(r.last_layer - r.first_layer);
  return out;
}

// A combination, each round between two looks at the machine's limits, which neighbours move.
bench_figures measure(const mpi::environment& env, engine& e, stopwatch& watch, const bench_subject& subject,
                      const workload& load, std::uint64_t& next_id, std::mt19937& random) {
  const struct closer {
    engine& e;
    ~closer() { e.close_front_ends(); }
  } close{e};
  const auto front_end = e.spawn_front_end(watch);
  auto warm_up = load;
  warm_up.batch = 1;
  warm_up.decode_tokens = std::min(load.decode_tokens, 4);
  measure(e, *front_end, watch, warm_up, next_id, random);

  bench_figures out;
  out.batch = load.batch;
  out.prompt_tokens = load.prompt_tokens;
  std::vector<double> prefill, decode, turnaround, draw, bandwidth, ops, of_ops, of_reads;
  auto before = measure_limits(env, e);
  for (std::int32_t i = 0; i < subject.repeat; ++i) {
    const auto f = measure(e, *front_end, watch, load, next_id, random);
    const auto after = measure_limits(env, e);
    bandwidth.push_back((before.read_bytes_per_s + after.read_bytes_per_s) / 2);
    ops.push_back((before.ops_per_s + after.ops_per_s) / 2);
    before = after;
    of_ops.push_back(ops.back() > 0 ? f.prefill_tokens_per_s * subject.token_ops / ops.back() : 0);
    of_reads.push_back(f.decode_tokens_per_s * out.weight_bytes_of_token(subject) / bandwidth.back());
    prefill.push_back(f.prefill_tokens_per_s);
    decode.push_back(f.decode_tokens_per_s);
    turnaround.push_back(f.turnaround_us);
    draw.push_back(f.draw_us);
  }
  out.prefill_tokens_per_s = median(prefill);
  out.decode_tokens_per_s = median(decode);
  out.read_bytes_per_s = median(bandwidth);
  out.ops_per_s = median(ops);
  out.prefill_share = median(of_ops);
  out.decode_share = median(of_reads);
  out.turnaround_us = one_host(e) ? median(turnaround) : 0;
  out.draw_us = median(draw);
  out.expected = expectation(e, load);
  return out;
}

bench_subject subject_of(const mpi::environment& env, const engine& e, const options& settings) {
  const auto layout = e.layout();
  const auto& arch = e.architecture();
  bench_subject out;
  out.model = settings.bench.random_weights.empty() ? settings.model : settings.bench.random_weights;
  out.weights = e.weights_text();
  out.ranks = env.size();
  out.pipelines = static_cast<int>(layout.pipelines.size());
  out.stages = layout.limits.stages;
  out.threads = e.threads();
  out.decode_tokens = settings.bench.decode_tokens;
  out.repeat = settings.bench.repeat;
  for (const auto& r : layout.rows) {
    out.weight_bytes += r.weight_bytes;
    out.step_bytes += r.step_bytes;
  }
  out.token_ops = 2.0 * (static_cast<double>(arch.layers) * static_cast<double>(arch.layer_parameters()));
  out.stage_ranks = stage_ranks_of(layout);
  out.stage_layers = layers_of(layout);
  return out;
}

// Lengths that fit the model's context.
void fit(options& settings, std::int32_t context) {
  auto& bench = settings.bench;
  measured_lengths lengths{bench.prompt_tokens, bench.decode_tokens, bench.prompts_given, bench.decode_given};
  if (const auto said = fit_lengths(lengths, context); !said.empty())
    std::fprintf(stderr, "fastserve: %s\n", said.c_str());
  bench.prompt_tokens = lengths.prompts;
  bench.decode_tokens = lengths.answer;
}

void serve(const mpi::environment& env, engine& e, const options& settings) {
  const auto& bench = settings.bench;
  const auto subject = subject_of(env, e, settings);
  // An op's times are of one combination: then each has lines of its own.
  const bool table = bench.batch.size() * bench.prompt_tokens.size() > 1 && !bench.json && !bench.profile;
  const auto print = [](const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  };
  if (!bench.json) print(bench_heading(subject));
  if (table) print(bench_table_head(subject));
  stopwatch watch{e};
  std::mt19937 random{1};
  std::uint64_t next_id = 1;
  for (const auto prompt_tokens : bench.prompt_tokens) {
    std::optional<prefix_hit> hit;
    for (const auto batch : bench.batch) {
      auto f = measure(env, e, watch, subject, {batch, prompt_tokens, bench.decode_tokens}, next_id, random);
      const auto profile = bench.profile ? profile_of(watch) : std::vector<op_share>{};
      if (table) {
        print(bench_table_row(f));
        continue;
      }
      if (settings.scheduler.prefix_caching && !hit) hit = measure_prefix_hit(e, prompt_tokens);
      if (hit) {
        f.hit_first_token_us = hit->first_token_us;
        f.hit_step_us = hit->step_us;
      }
      const bool decodes = bench.decode_tokens > 1;
      if (bench.json) {
        auto line = bench_json(subject, f);
        if (bench.profile) line["profile"] = profile_json(profile, decodes);
        print(line.dump() + "\n");
        continue;
      }
      print(bench_text(subject, f));
      if (bench.profile) print_profile(profile, decodes);
    }
  }
}

}  // namespace

int run_bench(mpi::environment& env, const options& settings) {
  auto fitted = settings;
  return run_with_engine(
      env, settings,
      [&](engine& e) {
        serve(env, e, fitted);
        return 0;
      },
      [&](const engine& e) { fit(fitted, context_of(e, settings)); });
}

}  // namespace fastserve::launch
