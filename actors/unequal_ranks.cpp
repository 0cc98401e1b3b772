#include "actors/unequal_ranks.hpp"

#include <algorithm>

#include "actors/measured_speed.hpp"
#include "actors/model_work.hpp"

namespace fastserve::actors {

namespace {

constexpr double noise = 1.1;

// Links are not measured at start. These are of a good network and of one host; they decide only whether a
// hop is worth it, which for models slow enough to be measured it is.
constexpr planner::link between_hosts{30e-6, 1e9};
constexpr planner::link within_host{20e-6, 3e9};

planner::cluster cluster_of(const std::map<int, node_profile>& profiles, const rank_speeds& speeds,
                            const std::vector<int>& ranks) {
  planner::cluster on;
  std::map<std::string, int> hosts;
  for (const auto rank : ranks) {
    auto r = profile_of(profiles.at(rank), speeds.at(rank));
    r.group = hosts.try_emplace(profiles.at(rank).host, static_cast<int>(hosts.size())).first->second;
    on.ranks.push_back(std::move(r));
  }
  on.groups = hosts.size();
  on.links.assign(on.groups * on.groups, between_hosts);
  for (std::size_t g = 0; g < on.groups; ++g) on.links[g * on.groups + g] = within_host;
  return on;
}

}  // namespace

planner::model_work work_of(const rank_context& c) {
  return work_of(c.architecture, {c.compute_type, c.quantize, c.kv_type, c.stored});
}

std::map<int, double> relative_speeds(const rank_context& model, const std::map<int, node_profile>& profiles,
                                      const rank_speeds& speeds, const std::vector<int>& ranks) {
  const auto equal = [&] {
    std::map<int, double> out;
    for (const auto rank : ranks) out[rank] = 1;
    return out;
  };
  std::map<int, double> out;
  const auto work = work_of(model);
  double least = 0, most = 0;
  for (const auto rank : ranks) {
    const auto known = speeds.find(rank);
    if (known == speeds.end() || !known->second.known()) return equal();
    const auto on = profile_of(profiles.at(rank), known->second);
    // A token of a prompt and one of an answer: arithmetic and bandwidth both count.
    const auto time = planner::step_line(work, on, 64, 64, 1, 0).layer / 64 +
                      planner::step_line(work, on, 1, 64, 1, 0).layer;
    out[rank] = time;
    least = least == 0 ? time : std::min(least, time);
    most = std::max(most, time);
  }
  if (most <= noise * least) return equal();
  for (auto& [rank, t] : out) t = least / t;
  return out;
}

bool are_unequal(const std::map<int, double>& relative) {
  return std::any_of(relative.begin(), relative.end(), [](const auto& s) { return s.second != 1.0; });
}

planner::pipeline_plan plan_unequal(const rank_context& model, const std::map<int, node_profile>& profiles,
                                    const rank_speeds& speeds, const std::vector<int>& ranks,
                                    const unequal_wishes& w) {
  const auto on = cluster_of(profiles, speeds, ranks);
  planner::plan_wishes wishes;
  wishes.usable_memory = w.usable_memory;
  wishes.max_batch = w.max_batch;
  wishes.token_budget = w.token_budget;
  wishes.prompt_tokens = wishes.answer_tokens = request_tokens;
  wishes.context_tokens = w.kv_tokens;
  wishes.spares = w.spares;
  wishes.replicas = 1;
  const auto made = planner::make_plan(work_of(model), on, wishes);
  planner::pipeline_plan out;
  out.error = made.error;
  if (!out.error.empty()) return out;
  for (const auto& s : made.pipelines.front().stages) {
    out.stages.push_back({s.rank, s.first_layer, s.last_layer});
    out.slowest = std::max(out.slowest, s.decode_s);
  }
  out.spares = made.spares;
  out.spares.insert(out.spares.end(), made.left_out.begin(), made.left_out.end());
  return out;
}

planner::prediction expected_of(const rank_context& model, const std::map<int, node_profile>& profiles,
                                const rank_speeds& speeds, const std::vector<planner::stage_place>& stages,
                                const planner::plan_wishes& wishes, double sequences) {
  std::vector<int> ranks;
  planner::planned_pipeline p;
  for (const auto& s : stages) {
    ranks.push_back(s.rank);
    p.stages.push_back({s.rank, s.first_layer, s.last_layer, 0, 0, 0, 0, 0});
  }
  planner::predict(work_of(model), cluster_of(profiles, speeds, ranks), wishes, sequences, p);
  return p.expected;
}

}  // namespace fastserve::actors
