#include "launch/option_rows.hpp"

namespace fastserve::launch {

namespace {

option_spec plan_replicas(commands who) {
  option_spec spec = begin({"plan", "replicas", "N", "pipelines, or auto: as serves the goal best"},
                           shape::value, std::move(who));
  spec.set = [](options& o, std::string_view value) {
    o.plan.replicas = value == "auto" ? 0 : static_cast<std::int32_t>(parse_integer(value, 1, 65536));
  };
  spec.get = [](const options& o) {
    return std::vector<std::string>{o.plan.replicas == 0 ? "auto" : std::to_string(o.plan.replicas)};
  };
  return spec;
}

}  // namespace

std::vector<option_spec> plan_rows() {
  const commands who{command::plan};
  std::vector<option_spec> rows;
  rows.push_back(text(
      {"plan", "cluster", "FILE.yaml", "the ranks and links, as configs/cluster-example.yaml explains",
       "none"},
      who, [](auto& o) -> auto& { return o.plan.cluster; }));
  rows.push_back(flag(
      {"plan", "measure", "", "measure the ranks and links of this job and print a cluster file"}, who,
      [](auto& o) -> auto& { return o.plan.measure; }));
  rows.push_back(choice(
      {"plan", "goal", "GOAL", "throughput or latency"}, who, {"throughput", "latency"},
      [](auto& o) -> auto& { return o.plan.goal; }));
  rows.push_back(integer(
      {"plan", "batch", "N", "sequences at once, over all pipelines",
       "0: --max-batch in each micro-batch; for latency one"},
      who, 0, 1 << 24, [](auto& o) -> auto& { return o.plan.batch; }));
  rows.push_back(integer(
      {"plan", "prompt_tokens", "N", "length of a prompt"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.plan.prompt_tokens; }));
  rows.push_back(integer(
      {"plan", "decode_tokens", "N", "length of an answer"}, who, 1, 1 << 24,
      [](auto& o) -> auto& { return o.plan.decode_tokens; }));
  rows.push_back(integer(
      {"plan", "context", "TOKENS", "that there must be room for", "0: a prompt and its answer"}, who, 0,
      1 << 28, [](auto& o) -> auto& { return o.plan.context; }));
  rows.push_back(integer(
      {"plan", "spares", "N", "ranks kept without layers"}, who, 0, 65536,
      [](auto& o) -> auto& { return o.plan.spares; }));
  rows.push_back(plan_replicas(who));
  rows.push_back(text(
      {"plan", "svg", "FILE", "write a picture of the plan", "none"}, who,
      [](auto& o) -> auto& { return o.plan.svg; }));
  rows.push_back(flag(
      {"plan", "json", "", "print JSON instead of a table"}, who,
      [](auto& o) -> auto& { return o.plan.json; }));
  for (auto& row : rows) row.in_yaml = false;
  return rows;
}

}  // namespace fastserve::launch
