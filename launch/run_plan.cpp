#include <cstdio>
#include <exception>

#include "launch/cluster_file.hpp"
#include "launch/model_form.hpp"
#include "launch/output.hpp"
#include "launch/plan_report.hpp"
#include "launch/run.hpp"
#include "model/model_folder.hpp"
#include "planner/cluster_plan.hpp"

namespace fastserve::launch {

namespace {

// Part of a rank's memory that weights and KV may take, as the engine does; the rest is for activations and
// the system.
constexpr double usable_memory = 0.85;

planner::plan_wishes wishes_of(const options& settings) {
  const auto& p = settings.plan;
  planner::plan_wishes w;
  w.goal = p.goal == "latency" ? planner::plan_goal::latency : planner::plan_goal::throughput;
  w.prompt_tokens = p.prompt_tokens;
  w.answer_tokens = p.decode_tokens;
  w.batch = p.batch;
  w.max_batch = settings.scheduler.max_batch;
  w.token_budget = std::max(settings.scheduler.token_budget, settings.scheduler.max_batch);
  w.context_tokens = p.context;
  w.usable_memory = usable_memory;
  w.spares = p.spares;
  w.replicas = p.replicas;
  return w;
}

}  // namespace

int run_plan(const options& settings) {
  try {
    const auto& shape = settings.bench.random_weights;
    const auto arch = shape.empty() ? model::read_model(settings.model) : model::read_architecture(shape);
    const auto work = actors::work_of(arch, form_of(settings, arch, true));
    const auto cluster = read_cluster_file(settings.plan.cluster);
    const auto wishes = wishes_of(settings);
    const auto plan = planner::make_plan(work, cluster, wishes);
    if (!plan.error.empty()) throw std::runtime_error(plan.error);
    const auto& name = shape.empty() ? settings.model : shape;
    if (settings.plan.json)
      std::printf("%s\n", plan_json(plan, cluster).dump().c_str());
    else
      std::fputs(format_plan(plan, cluster, wishes).c_str(), stdout);
    if (const auto& file = settings.plan.svg; !file.empty())
      write_file(file, draw_plan(plan, cluster,
                                 name + " on " + settings.plan.cluster + ", " +
                                     std::to_string(cluster.ranks.size()) +
                                     (cluster.ranks.size() == 1 ? " rank" : " ranks")));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "fastserve: %s\n", e.what());
    return 1;
  }
  return 0;
}

}  // namespace fastserve::launch
