#include "launch/option_rows.hpp"

#include <algorithm>

#include "launch/serve_report.hpp"

namespace fastserve::launch {

namespace {

// Calls `take` for each part between commas.
template <typename Take>
void split(std::string_view text, Take take) {
  for (std::size_t at = 0;;) {
    const auto end = std::min(text.find(',', at), text.size());
    take(text.substr(at, end - at));
    if (end == text.size()) return;
    at = end + 1;
  }
}

template <typename T, typename Text>
std::string join(const std::vector<T>& values, Text text_of) {
  std::string out;
  for (const auto& v : values) out += (out.empty() ? "" : ",") + text_of(v);
  return out;
}

option_spec rates(commands who) {
  option_spec spec =
      begin({"load", "rates", "R,...", "requests a second; a run for each"}, shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    std::vector<float> parsed;
    split(value, [&](std::string_view part) { append(parsed, parse_real(part, 0.0F, 1e9F, true)); });
    o.load.rates = std::move(parsed);
  };
  spec.get = [](const options& o) { return std::vector<std::string>{join(o.load.rates, format_real)}; };
  return spec;
}

option_spec compared(commands who) {
  option_spec spec =
      begin({"load", "compare", "NAME,...", "policies, one after the other", "that of --policy"},
            shape::value, std::move(who));
  spec.empty_is_unset = true;
  spec.set = [](options& o, std::string_view value) {
    std::vector<std::string> parsed;
    split(value, [&](std::string_view part) { append(parsed, parse_policy(part)); });
    o.load.compare = std::move(parsed);
  };
  spec.get = [](const options& o) {
    return std::vector<std::string>{join(o.load.compare, [](const auto& name) { return name; })};
  };
  return spec;
}

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

option_spec arrivals(commands who) {
  option_spec spec =
      begin({"load", "arrivals", "HOW", "poisson, gamma (see --cv), or trace: as the file says"},
            shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    o.load.arrivals = parse_choice(value, {"poisson", "gamma", "trace"});
  };
  spec.get = [](const options& o) { return std::vector<std::string>{o.load.arrivals}; };
  return spec;
}

option_spec load_seed(commands who) {
  option_spec spec = begin({"load", "seed", "N", "of lengths and arrivals"}, shape::value, std::move(who));
  spec.numeric = true;
  spec.set = [](options& o, std::string_view value) { o.load.seed = parse_unsigned(value); };
  spec.get = [](const options& o) { return std::vector<std::string>{std::to_string(o.load.seed)}; };
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
  rows.push_back(arrivals(who));
  rows.push_back(rates(who));
  rows.push_back(real(
      {"load", "cv", "X", "of gamma gaps: standard deviation over mean"}, who, 0.0F, 100.0F, false,
      [](auto& o) -> auto& { return o.load.cv; }));
  rows.push_back(integer(
      {"load", "requests", "N", "in each run"}, who, 1, 10'000'000,
      [](auto& o) -> auto& { return o.load.requests; }));
  rows.push_back(integer(
      {"load", "prompt_tokens", "N", "length of each prompt, without a trace"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.load.prompt_tokens; }));
  rows.push_back(integer(
      {"load", "decode_tokens", "N", "length of each answer, without a trace"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.load.decode_tokens; }));
  rows.push_back(integer(
      {"load", "longest_prompt", "N", "leave requests of the trace with longer prompts out", "0: none"}, who,
      0, 1 << 24, [](auto& o) -> auto& { return o.load.longest_prompt; }));
  rows.push_back(real(
      {"load", "scale", "X", "times every length of the trace"}, who, 0.0F, 1000.0F, true,
      [](auto& o) -> auto& { return o.load.scale; }));
  rows.push_back(real(
      {"load", "prompt_scale", "X", "times every prompt's length, on top of --scale"}, who, 0.0F, 1000.0F,
      true, [](auto& o) -> auto& { return o.load.prompt_scale; }));
  rows.push_back(load_seed(who));
  rows.push_back(integer(
      {"load", "seeds", "N", "make each run with so many seeds and take the mean"}, who, 1, 1000,
      [](auto& o) -> auto& { return o.load.seeds; }));
  rows.push_back(compared(who));
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
      {"simulate", "replicas", "N", "pipelines; a request goes to the least busy one"}, who, 1, 65536,
      [](auto& o) -> auto& { return o.simulate.replicas; }));
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
