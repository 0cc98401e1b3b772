#include <cstdio>
#include <exception>
#include <limits>
#include <vector>

#include "launch/run.hpp"
#include "launch/serve_runs.hpp"
#include "launch/simulated_run.hpp"
#include "launch/text_file.hpp"

namespace fastserve::launch {

namespace {

constexpr std::int32_t default_context = 8192;
constexpr std::size_t max_calibration_bytes = 64U << 20U;

simulated_engine engine_of(const options& settings) {
  simulated_engine out;
  auto& l = out.limits;
  const auto& s = settings.simulate;
  l.stages = s.stages;
  l.max_batch = settings.scheduler.max_batch;
  l.token_budget = std::max(settings.scheduler.token_budget, l.max_batch);
  l.max_context = settings.engine.max_context > 0 ? settings.engine.max_context : default_context;
  l.max_waiting = std::numeric_limits<std::size_t>::max();
  l.prefix_caching = settings.scheduler.prefix_caching;
  l.policy.starvation = std::chrono::milliseconds{settings.scheduler.starvation_ms};
  const auto blocks =
      settings.kv_cache.kv_tokens > 0
          ? (settings.kv_cache.kv_tokens + scheduler::block_tokens - 1) / scheduler::block_tokens
          : std::int64_t{l.max_batch} * l.stages * scheduler::blocks_for(l.max_context);
  l.kv_blocks = static_cast<std::int32_t>(std::min<std::int64_t>(blocks, 1 << 28));
  out.cluster.stage = {s.fixed_us * 1e3, s.row_us * 1e3, s.draw_us * 1e3, s.context_us * 1e3};
  out.cluster.replicas = std::max(s.replicas, 1);
  const auto us = [](double v) { return scheduler::time{static_cast<std::int64_t>(v * 1e3)}; };
  const auto slots = [](std::int64_t tokens) {
    return static_cast<std::int32_t>(std::min<std::int64_t>(tokens / scheduler::block_tokens, 1 << 28));
  };
  l.swap = {slots(s.swap_tokens), slots(s.swap_disk_tokens), us(s.swap_us), us(s.swap_disk_us)};
  out.front_ms = s.front_us / 1e3;
  out.cluster.link = scheduler::time{static_cast<std::int64_t>(s.link_us * 1e3)};
  return out;
}

// Limits and costs of the engine that bench serve measured.
void calibrate(const std::string& path, bool replicas_too, simulated_engine& p) {
  const auto text = read_text_file(path, "calibration file", max_calibration_bytes);
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto number = [&](const char* section, const char* key, double low, double high) {
    if (json.is_object() && json.contains(section) && json[section].is_object()) {
      const auto& of = json[section];
      if (of.contains(key) && of[key].is_number()) {
        const auto value = of[key].get<double>();
        if (value >= low && value <= high) return value;
      }
    }
    throw std::runtime_error(path + ": no usable " + section + "." + key +
                             "; expected the JSON that bench serve saves");
  };
  const auto whole = [&](const char* key, double high) {
    return static_cast<std::int32_t>(number("limits", key, 1, high));
  };
  auto& l = p.limits;
  l.stages = whole("stages", 65536);
  if (replicas_too) p.cluster.replicas = whole("replicas", 65536);
  l.max_batch = whole("max_batch", 65536);
  l.token_budget = whole("token_budget", 1 << 20);
  l.kv_blocks = whole("kv_blocks", 1 << 28);
  l.max_context = whole("max_context", 1 << 30);
  const auto cost = [&](const char* key) { return 1e3 * number("step_costs", key, 0, 1e9); };
  p.cluster.stage = {cost("fixed_us"), cost("row_us"), cost("draw_us"), cost("context_us")};
  p.front_ms = number("step_costs", "front_us", 0, 1e9) / 1e3;
  const auto slots = [&](const char* key) {
    return static_cast<std::int32_t>(number("limits", key, 0, 1 << 28));
  };
  const auto block = [&](const char* key) {
    return scheduler::time{static_cast<std::int64_t>(1e3 * number("limits", key, 0, 1e9))};
  };
  l.swap = {slots("swap_blocks"), slots("swap_disk_blocks"), block("swap_us"), block("swap_disk_us")};
}

}  // namespace

int run_simulate(const options& settings) {
  try {
    auto p = engine_of(settings);
    if (!settings.simulate.calibrate.empty())
      calibrate(settings.simulate.calibrate, settings.simulate.replicas == 0, p);
    const auto& c = p.cluster.stage;
    nlohmann::ordered_json facts{{"backend", "simulation"},
                                 {"replicas", p.cluster.replicas},
                                 {"stages", p.limits.stages},
                                 {"step_costs",
                                  {{"fixed_us", c.fixed_ns / 1e3},
                                   {"row_us", c.row_ns / 1e3},
                                   {"draw_us", c.draw_ns / 1e3},
                                   {"context_us", c.context_ns / 1e3},
                                   {"front_us", p.front_ms * 1e3}}}};
    serve_all(
        settings, p.limits.max_context, std::move(facts),
        [&](const std::string& policy, const std::vector<workload_item>& load) {
          return simulate_load(p, policy, load, settings.load);
        },
        [](nlohmann::ordered_json&) {});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "fastserve: %s\n", e.what());
    return 1;
  }
  return 0;
}

}  // namespace fastserve::launch
