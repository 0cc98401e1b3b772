#include "launch/simulated_run.hpp"

#include "launch/serve_runs.hpp"

namespace fastserve::launch {

namespace {

constexpr std::int32_t vocab = 32000;

double ms(scheduler::time t) { return static_cast<double>(t.count()) / 1e6; }

// Times of the requests in the simulation.
class meter final : public scheduler::simulation_sink {
 public:
  meter(std::size_t requests, double front_ms) : front_ms_{front_ms}, last_(requests) {}
  void on_token(scheduler::request_id id, scheduler::time at) override {
    auto& last = last_.at(static_cast<std::size_t>(id));
    if (last.count() > 0) figures.token_gap(ms(at - last));
    last = at;
  }
  void on_done(const scheduler::progress& p) override {
    figures.done({p.prompt_tokens, p.completion_tokens, front_ms_ + ms(p.times.first_token - p.times.arrived),
                  front_ms_ + ms(p.times.finished - p.times.arrived)});
  }
  void on_refused(scheduler::request_id, const std::string&) override { figures.failed(); }

  serve_meter figures;

 private:
  double front_ms_;
  std::vector<scheduler::time> last_;  // [requests], the last token
};

}  // namespace

serve_report simulate_load(const simulated_engine& engine, const std::string& policy,
                           const std::vector<workload_item>& load, const load_options& how) {
  auto limits = engine.limits;
  limits.policy.name = policy;
  meter sink{load.size(), engine.front_ms};
  std::size_t next = 0;
  const auto block = prefix_block(how);
  const auto result = scheduler::simulate(
      limits, engine.cluster,
      [&]() -> std::optional<scheduler::arrival> {
        if (next == load.size()) return std::nullopt;
        const auto& item = load[next];
        scheduler::arrival a{scheduler::time{static_cast<std::int64_t>(item.at_s * 1e9)}, {}};
        a.what.id = scheduler::request_id{next};
        a.what.prompt = prompt_of(item, next, vocab, block);
        a.what.max_tokens = item.output_tokens;
        ++next;
        return a;
      },
      sink);
  auto report = sink.figures.report(static_cast<double>(result.end.count()) / 1e9, parse_goal(how.goodput));
  report.preemptions = result.totals.preemptions;
  report.prefix_hit_tokens = result.totals.prefix_hit_tokens;
  report.blocks_out = result.totals.blocks_out;
  report.blocks_in = result.totals.blocks_in;
  return report;
}

}  // namespace fastserve::launch
