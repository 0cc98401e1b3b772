#include "launch/option_rows.hpp"

#include "launch/serve_report.hpp"

namespace fastserve::launch {

namespace {

option_spec goodput(commands who) {
  option_spec spec = begin(
      {"load", "goodput", "BOUNDS", "count requests within these, such as ttft:500,tpot:50", "not counted"},
      shape::value, std::move(who));
  spec.empty_is_unset = true;
  spec.set = [](options& o, std::string_view value) {
    parse_goal(value);
    o.load.goodput = std::string{value};
  };
  spec.get = [](const options& o) { return std::vector<std::string>{o.load.goodput}; };
  return spec;
}

}  // namespace

std::vector<option_spec> load_rows() {
  const commands who{command::bench_serve, command::simulate};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"load", "trace", "FILE", "lengths: CSV (ShareGPT, Azure) or JSON lines (Mooncake)",
       "--prompt-tokens and --decode-tokens"},
      who, [](auto& o) -> auto& { return o.load.trace; }));
  rows.push_back(choice(
      {"load", "arrivals", "HOW", "poisson, gamma (see --cv), or trace: as the file says"}, who,
      {"poisson", "gamma", "trace"}, [](auto& o) -> auto& { return o.load.arrivals; }));
  rows.push_back(joined(
      {"load", "rates", "R,...", "requests a second; a run for each"}, who,
      [](std::string_view part) { return parse_real(part, 0.0F, 1e9F, true); }, format_real,
      [](auto& o) -> auto& { return o.load.rates; }));
  rows.push_back(real(
      {"load", "cv", "X", "of gamma gaps: standard deviation over mean"}, who, 0.0F, 100.0F, false,
      [](auto& o) -> auto& { return o.load.cv; }));
  rows.push_back(integer(
      {"load", "requests", "N", "in each run"}, who, 1, 10'000'000,
      [](auto& o) -> auto& { return o.load.requests; }));
  rows.push_back(or_auto(
      integer(
          {"load", "prompt_tokens", "N", "length of each prompt, without a trace",
           "auto: 512, or what the context holds"},
          who, 1, 1 << 24, [](auto& o) -> auto& { return o.load.prompt_tokens; }),
      [](auto& o) -> auto& { return o.load.prompts_given; }));
  rows.push_back(or_auto(
      integer(
          {"load", "decode_tokens", "N", "length of each answer, without a trace",
           "auto: 128, or what the context holds"},
          who, 1, 1 << 24, [](auto& o) -> auto& { return o.load.decode_tokens; }),
      [](auto& o) -> auto& { return o.load.decode_given; }));
  rows.push_back(integer(
      {"load", "longest_prompt", "N", "leave requests of the trace with longer prompts out", "0: none"}, who,
      0, 1 << 24, [](auto& o) -> auto& { return o.load.longest_prompt; }));
  rows.push_back(real(
      {"load", "scale", "X", "times every length of the trace"}, who, 0.0F, 1000.0F, true,
      [](auto& o) -> auto& { return o.load.scale; }));
  rows.push_back(real(
      {"load", "prompt_scale", "X", "times every prompt's length, on top of --scale"}, who, 0.0F, 1000.0F,
      true, [](auto& o) -> auto& { return o.load.prompt_scale; }));
  rows.push_back(seed(
      {"load", "seed", "N", "of lengths and arrivals"}, who, [](auto& o) -> auto& { return o.load.seed; }));
  rows.push_back(integer(
      {"load", "seeds", "N", "make each run with so many seeds and take the mean"}, who, 1, 1000,
      [](auto& o) -> auto& { return o.load.seeds; }));
  rows.push_back(joined(
      {"load", "compare", "NAME,...", "policies, one after the other", "that of --policy"}, who,
      [](std::string_view part) { return parse_policy(part); }, [](const std::string& name) { return name; },
      [](auto& o) -> auto& { return o.load.compare; }));
  rows.back().empty_is_unset = true;
  rows.push_back(real(
      {"load", "slo_ms", "MS", "bound of the mean latency an output token: the rate that crosses it is told",
       "0: none"},
      who, 0.0F, 1e9F, false, [](auto& o) -> auto& { return o.load.slo_ms; }));
  rows.push_back(goodput(who));
  rows.push_back(text(
      {"load", "save", "NAME", "write NAME.json and the plot NAME.svg", "nothing is written"}, who,
      [](auto& o) -> auto& { return o.load.save; }));
  rows.push_back(flag(
      {"load", "simulate", "", "serve the same arrivals in the simulation and print the difference"},
      {command::bench_serve}, [](auto& o) -> auto& { return o.load.simulate; }));
  rows.push_back(flag(
      {"load", "json", "", "print JSON instead of tables"}, who,
      [](auto& o) -> auto& { return o.load.json; }));
  return rows;
}

std::vector<option_spec> simulate_rows() {
  const commands who{command::simulate};
  std::vector<option_spec> rows;
  rows.push_back(integer(
      {"simulate", "replicas", "N", "pipelines; requests are routed as in the engine",
       "0: one, or as many as --calibrate tells of"},
      who, 0, 65536, [](auto& o) -> auto& { return o.simulate.replicas; }));
  rows.push_back(integer(
      {"simulate", "stages", "N", "of each pipeline"}, who, 1, 65536,
      [](auto& o) -> auto& { return o.simulate.stages; }));
  const auto cost = [&](std::string_view key, std::string_view doc, auto field) {
    rows.push_back(real({"simulate", key, "US", doc}, who, 0.0F, 1e9F, false, field));
  };
  cost(
      "fixed_us", "microseconds of a step, on each stage",
      [](auto& o) -> auto& { return o.simulate.fixed_us; });
  cost(
      "row_us", "of each token computed", [](auto& o) -> auto& { return o.simulate.row_us; });
  cost(
      "draw_us", "of each token drawn", [](auto& o) -> auto& { return o.simulate.draw_us; });
  cost(
      "context_us", "of each position attended to", [](auto& o) -> auto& { return o.simulate.context_us; });
  cost(
      "link_us", "of each hop between stages", [](auto& o) -> auto& { return o.simulate.link_us; });
  cost(
      "front_us", "of a request's way to the scheduler and a token's back, together",
      [](auto& o) -> auto& { return o.simulate.front_us; });
  constexpr std::int64_t most_tokens = std::int64_t{1} << 40;
  rows.push_back(integer(
      {"simulate", "swap_tokens", "N", "room in memory for the KV of preempted requests"}, who, 0,
      most_tokens, [](auto& o) -> auto& { return o.simulate.swap_tokens; }));
  cost(
      "swap_us", "of a KV block's copy there or back", [](auto& o) -> auto& { return o.simulate.swap_us; });
  rows.push_back(integer(
      {"simulate", "swap_disk_tokens", "N", "room on disk behind it"}, who, 0, most_tokens,
      [](auto& o) -> auto& { return o.simulate.swap_disk_tokens; }));
  cost(
      "swap_disk_us", "of a block there", [](auto& o) -> auto& { return o.simulate.swap_disk_us; });
  rows.push_back(text(
      {"simulate", "calibrate", "FILE.json", "take costs and limits from what bench serve saved", "as given"},
      who, [](auto& o) -> auto& { return o.simulate.calibrate; }));
  return rows;
}

}  // namespace fastserve::launch
