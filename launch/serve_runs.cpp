#include "launch/serve_runs.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "launch/fitted_lengths.hpp"
#include "launch/formatted.hpp"
#include "launch/output.hpp"
#include "launch/svg_plot.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

// As it will be at the end of a long measurement.
void check_writable(const std::string& path) {
  const bool there = std::filesystem::exists(path);
  write_file(path, {}, std::ios::app);
  if (!there) std::filesystem::remove(path);
}

// What the runs of one policy at one rate have in common: the mean over their seeds.
class means {
 public:
  void add(const serve_report& r) {
    ++runs_;
    normalized_ms_ += r.normalized_ms.mean;
    ttft_ms_ += r.ttft_ms.mean;
    p99_ttft_ms_ += r.ttft_ms.p99;
    request_throughput_ += r.request_throughput;
    output_throughput_ += r.output_throughput;
    tpot_ms_ += r.tpot_ms.mean;
    if (!r.simulated) return;
    simulated_ttft_ms_ += r.simulated->ttft_ms.mean;
    simulated_tpot_ms_ += r.simulated->tpot_ms.mean;
    simulated_normalized_ms_ += r.simulated->normalized_ms.mean;
  }
  double normalized_ms() const { return normalized_ms_ / runs_; }
  double request_throughput() const { return request_throughput_ / runs_; }
  std::string line(const std::string& policy, double rate) const {
    return formatted("%-8s %10g %12.2f %14.1f %14.1f %12.1f\n", policy.c_str(), rate, normalized_ms(),
                     ttft_ms_ / runs_, p99_ttft_ms_ / runs_, output_throughput_ / runs_);
  }
  std::string comparison(const std::string& policy, double rate) const {
    const auto off = [](double measured, double simulated) { return 100 * difference(measured, simulated); };
    return formatted("%-8s %10g %9.2f %9.2f %+6.1f%% %9.2f %9.2f %+6.1f%% %9.2f %9.2f %+6.1f%%\n",
                     policy.c_str(), rate, ttft_ms_ / runs_, simulated_ttft_ms_ / runs_,
                     off(ttft_ms_, simulated_ttft_ms_), tpot_ms_ / runs_, simulated_tpot_ms_ / runs_,
                     off(tpot_ms_, simulated_tpot_ms_), normalized_ms(), simulated_normalized_ms_ / runs_,
                     off(normalized_ms_, simulated_normalized_ms_));
  }

 private:
  double runs_ = 0;
  double normalized_ms_ = 0, ttft_ms_ = 0, p99_ttft_ms_ = 0, tpot_ms_ = 0;
  double simulated_ttft_ms_ = 0, simulated_tpot_ms_ = 0, simulated_normalized_ms_ = 0;
  double request_throughput_ = 0, output_throughput_ = 0;
};

}  // namespace

std::vector<workload_item> load_of(const load_options& load, std::int32_t max_context, load_cut* cut) {
  trace from;
  if (load.trace.empty())
    from.items.push_back({0, load.prompt_tokens, load.decode_tokens, {}});
  else
    from = read_trace_file(load.trace);
  if (load.longest_prompt > 0) {
    std::erase_if(from.items, [&](const auto& item) { return item.prompt_tokens > load.longest_prompt; });
    if (from.items.empty())
      throw std::runtime_error("--longest-prompt " + std::to_string(load.longest_prompt) +
                               ": all prompts of the load are longer");
  }
  const bool in_time = load.arrivals == "trace";
  if (in_time && !from.timed)
    throw std::runtime_error("--arrivals trace: " +
                             (load.trace.empty() ? "no --trace given" : load.trace + " has no times"));
  return make_load(from, {load.requests, load.scale, load.prompt_scale, max_context, load.seed}, in_time,
                   cut);
}

std::string fit_load(load_options& load, std::int32_t max_context) {
  if (!load.trace.empty() || max_context <= 0) return {};
  const double prompt_scale = static_cast<double>(load.scale) * load.prompt_scale;
  if (std::int64_t{scaled(load.prompt_tokens, prompt_scale)} + scaled(load.decode_tokens, load.scale) <=
      max_context)
    return {};
  if (load.scale != 1 || load.prompt_scale != 1)
    throw std::runtime_error("--prompt-tokens " + std::to_string(load.prompt_tokens) +
                             " and --decode-tokens " + std::to_string(load.decode_tokens) +
                             ", scaled by --scale and --prompt-scale, exceed the context of " +
                             counted(max_context, "token"));
  measured_lengths lengths{{load.prompt_tokens}, load.decode_tokens, load.prompts_given, load.decode_given};
  const auto said = fit_lengths(lengths, max_context);
  load.prompt_tokens = lengths.prompts.front();
  load.decode_tokens = lengths.answer;
  return said;
}

void check_load(load_options load, std::int32_t max_context) {
  fit_load(load, max_context);
  load.requests = 1;
  load_of(load, max_context);
  if (load.save.empty()) return;
  for (const auto* kind : {".json", ".svg"}) check_writable(load.save + kind);
}

std::int32_t prefix_block(const load_options& load) {
  return static_cast<std::int32_t>(
      std::max(1.0, std::round(prefix_tokens * static_cast<double>(load.scale) * load.prompt_scale)));
}

double crossing(const std::vector<std::pair<double, double>>& curve, double bound) {
  for (std::size_t i = 0; i < curve.size(); ++i) {
    if (curve[i].second <= bound) continue;
    if (i == 0) return curve[0].first;
    const auto& [x0, y0] = curve[i - 1];
    const auto& [x1, y1] = curve[i];
    return x0 + (x1 - x0) * (bound - y0) / (y1 - y0);
  }
  return -1;
}

void serve_all(const options& settings, std::int32_t max_context, nlohmann::ordered_json facts,
               const serve_once& once, const std::function<void(nlohmann::ordered_json&)>& finish) {
  auto load = settings.load;
  check_load(load, max_context);
  if (const auto said = fit_load(load, max_context); !said.empty())
    std::fprintf(stderr, "fastserve: %s\n", said.c_str());
  const auto policies =
      load.compare.empty() ? std::vector<std::string>{chosen_policy(settings)} : load.compare;
  const bool in_time = load.arrivals == "trace";
  auto rates = load.rates;
  std::sort(rates.begin(), rates.end());
  if (in_time) rates.resize(1);

  facts["num_prompts"] = load.requests;
  facts["trace"] = load.trace;
  if (load.trace.empty()) {
    facts["prompt_tokens"] = load.prompt_tokens;
    facts["decode_tokens"] = load.decode_tokens;
  }
  facts["scale"] = load.scale;
  facts["prompt_scale"] = load.prompt_scale;
  facts["arrivals"] = load.arrivals;
  facts["seeds"] = load.seeds;
  facts["max_concurrency"] = nullptr;
  facts["max_batch"] = settings.scheduler.max_batch;
  facts["token_budget"] = settings.scheduler.token_budget;
  auto& runs = facts["runs"] = nlohmann::ordered_json::array();
  std::vector<plot_series> curves;
  std::string summary, comparisons;
  for (const auto& policy : policies) {
    curves.push_back({policy, {}});
    for (const double rate : rates) {
      means of;
      for (auto seed = load.seed; seed < load.seed + static_cast<std::uint64_t>(load.seeds); ++seed) {
        auto own = load;
        own.seed = seed;
        load_cut cut;
        auto items = load_of(own, max_context, &cut);
        if (cut.requests > 0 && runs.empty())
          std::fprintf(stderr, "fastserve: %s\n", cut.text(items.size()).c_str());
        if (!in_time) set_arrivals(items, {rate, load.arrivals == "gamma" ? load.cv : 1.0, seed});
        auto report = once(policy, items);
        report.cut = cut;
        nlohmann::ordered_json run{
            {"policy", policy}, {"request_rate", in_time ? 0.0 : rate}, {"seed", seed}};
        run.update(report.json());
        runs.push_back(std::move(run));
        of.add(report);
        if (load.json || load.seeds > 1) continue;
        if (in_time)
          std::printf("== %s, arrivals of the trace\n%s\n", policy.c_str(), report.text().c_str());
        else
          std::printf("== %s, %g requests/s\n%s\n", policy.c_str(), rate, report.text().c_str());
        std::fflush(stdout);
      }
      curves.back().points.emplace_back(in_time ? of.request_throughput() : rate, of.normalized_ms());
      summary += of.line(policy, in_time ? of.request_throughput() : rate);
      comparisons += of.comparison(policy, in_time ? of.request_throughput() : rate);
    }
  }
  if (!load.json && runs.size() > 1)
    std::printf("%-8s %10s %12s %14s %14s %12s\n%s", "policy", "requests/s", "ms/token", "TTFT mean ms",
                "TTFT P99 ms", "tokens/s", summary.c_str());
  if (!load.json && runs.size() > 1 && load.simulate)
    std::printf(
        "\nMeasured, simulated with what this run's steps were found to cost, and how far off:\n"
        "%-8s %10s %27s %27s %27s\n%s",
        "policy", "requests/s", "TTFT mean ms", "TPOT mean ms", "ms/token", comparisons.c_str());
  if (load.slo_ms > 0) {
    auto& crossings = facts["slo_crossing_rate"] = nlohmann::ordered_json::object();
    for (const auto& c : curves) {
      const double at = crossing(c.points, load.slo_ms);
      crossings[c.name] = at < 0 ? nlohmann::ordered_json{} : nlohmann::ordered_json{at};
      if (load.json) continue;
      if (at < 0)
        std::printf("%-8s stays within %g ms an output token at all rates\n", c.name.c_str(), load.slo_ms);
      else
        std::printf("%-8s crosses %g ms an output token at %.2f requests/s\n", c.name.c_str(), load.slo_ms,
                    at);
    }
    facts["slo_ms"] = load.slo_ms;
  }
  finish(facts);
  if (load.json) std::printf("%s\n", facts.dump().c_str());
  if (load.save.empty()) return;
  write_file(load.save + ".json", facts.dump(2) + "\n");
  plot_labels labels{"Mean latency an output token", "requests/s", "ms/token", {}, {}};
  if (load.slo_ms > 0) {
    labels.line = load.slo_ms;
    labels.line_name = "SLO";
  }
  write_file(load.save + ".svg", draw_plot(labels, curves));
}

}  // namespace fastserve::launch
