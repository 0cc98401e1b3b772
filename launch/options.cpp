#include "launch/options.hpp"

#include <array>
#include <stdexcept>

#include "launch/option_table.hpp"

namespace fastserve::launch {

namespace {

constexpr std::array<std::string_view, 9> command_names{
    "console", "batch", "bench", "bench-serve", "simulate", "plan", "compress", "inspect", "version"};

/// Every value goes once more through the door it came in by, so that ranges are written in one place only.
std::string check_ranges(const options& given) {
  options scratch;
  for (const option_spec& spec : option_table()) {
    for (const std::string& value : spec.get(given)) {
      // An unset text is no value.
      if (value.empty() && spec.empty_is_unset) continue;
      try {
        spec.set(scratch, value);
      } catch (const std::invalid_argument& complaint) {
        return std::string{spec.key} + ": " + complaint.what();
      }
    }
  }
  return {};
}

}  // namespace

std::string_view name_of(command which) noexcept { return command_names[static_cast<std::size_t>(which)]; }

std::optional<command> command_named(std::string_view name) noexcept {
  for (std::size_t i = 0; i < command_names.size(); ++i)
    if (command_names[i] == name) return static_cast<command>(i);
  return std::nullopt;
}

std::string options::validate() const {
  if (std::string wrong = check_ranges(*this); !wrong.empty()) return wrong;
  if (engine.quantize == "fp8" && engine.quantize_group > 0)
    return "--quantize-group " + std::to_string(engine.quantize_group) +
           ": fp8 has one scale a row; leave it out, or take row";
  if (kv_cache.swap_disk > 0 && kv_cache.swap_dir.empty())
    return "--swap-disk needs a folder: name one with --swap-dir DIR";
  if (failover.deadline_ms < 2 * failover.heartbeat_ms)
    return "--deadline-ms " + std::to_string(failover.deadline_ms) + " is less than two heartbeats of " +
           std::to_string(failover.heartbeat_ms) + " ms";
  if (failover.fence_ms < failover.deadline_ms)
    return "--fence-ms " + std::to_string(failover.fence_ms) + " is less than --deadline-ms " +
           std::to_string(failover.deadline_ms) + ": a rank would end before it is missed";
  switch (what) {
    case command::version:
      break;
    case command::console:
    case command::inspect:
      if (model.empty()) return "no model given: name a folder or a GGUF file with --model";
      break;
    case command::batch:
      if (model.empty()) return "no model given: name a folder or a GGUF file with --model";
      if (batch.input.empty() || batch.output.empty())
        return "a batch needs two files: fastserve batch IN.jsonl OUT.jsonl --model DIR";
      break;
    case command::simulate:
      break;
    case command::plan:
      if (!plan.measure && model.empty() == bench.random_weights.empty())
        return "name a folder with --model DIR, or a shape with --random-weights CONFIG.json";
      if (plan.measure != plan.cluster.empty())
        return "name a cluster with --cluster FILE.yaml, or measure the ranks of this job with --measure";
      if (plan.measure && (plan.json || !plan.svg.empty()))
        return "--measure prints a cluster file: --svg and --json belong to --cluster";
      break;
    case command::compress:
      if (model.empty() || compress.output.empty())
        return "compress needs two folders: fastserve compress IN OUT --format int8";
      if (compress.format.empty()) return "name a format with --format int8, int4 or none";
      break;
    case command::bench_serve:
      if (model.empty() == bench.random_weights.empty())
        return "name a folder with --model DIR, or a shape with --random-weights CONFIG.json";
      break;
    case command::bench:
      if (model.empty() && bench.random_weights.empty())
        return "nothing to measure: name a folder with --model DIR, or a shape with --random-weights "
               "CONFIG.json";
      if (!model.empty() && !bench.random_weights.empty())
        return "--model and --random-weights exclude each other: name one of them";
      for (const auto tokens : bench.prompt_tokens)
        if (engine.max_context > 0 && bench.prompts_given && bench.decode_given &&
            std::int64_t{tokens} + bench.decode_tokens > engine.max_context)
          return "--prompt-tokens " + std::to_string(tokens) + " and --decode-tokens " +
                 std::to_string(bench.decode_tokens) + " together exceed --max-context " +
                 std::to_string(engine.max_context);
      break;
  }
  return {};
}

std::string chosen_policy(const options& settings) {
  if (settings.scheduler.policy != "auto") return settings.scheduler.policy;
  return settings.what == command::batch ? "fcfs" : "sj-mlfq";
}

}  // namespace fastserve::launch
