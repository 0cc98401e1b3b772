#include "planner/plan_reasons.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

namespace fastserve::planner {

namespace {

constexpr std::size_t most_told = 8;  // ranks that get a line of their own

template <typename... Args>
std::string format(const char* how, Args... args) {
  std::array<char, 256> room{};
  std::snprintf(room.data(), room.size(), how, args...);
  return room.data();
}

std::string gibibytes(double bytes) { return format("%.3g GiB", bytes / (1024.0 * 1024 * 1024)); }

std::string number(double v) { return format("%.0f", v); }

std::string three_digits(double v) { return v < 1000 ? format("%.3g", v) : number(v); }

std::string pipelines(std::size_t n) { return std::to_string(n) + (n == 1 ? " pipeline" : " pipelines"); }

void explain_shape(const plan_wishes& w, const plan_alternatives& other, cluster_plan& plan) {
  std::size_t most = 0;
  bool alike = true;
  for (const auto& p : plan.pipelines) {
    most = std::max(most, p.stages.size());
    alike = alike && p.stages.size() == plan.pipelines.front().stages.size();
  }
  auto line = pipelines(plan.pipelines.size()) + " of " + (alike ? "" : "up to ") + std::to_string(most) +
              (most == 1 ? " stage" : " stages");
  if (w.replicas > 0) {
    plan.reasons.push_back(line + ": so many were asked for");
    return;
  }
  std::size_t next = 0;
  double score = 0;
  for (const auto& [n, s] : other.by_pipelines)
    if (n != plan.pipelines.size() && s > score) {
      next = n;
      score = s;
    }
  const auto* unit = w.goal == plan_goal::throughput ? "tokens a second" : "the speed of an answer";
  if (w.goal == plan_goal::latency && w.batch <= 1)
    line += ": a lone request is in one";
  else if (next == 0)
    line += ": the only number that fits";
  else if (score > other.best * 0.995)
    line += ": " + std::to_string(next) + " would be as good, with more stages to fill";
  else
    line += ": " + std::to_string(next) + " would give " +
            format("%.0f %% of %s", 100 * score / other.best, unit);
  plan.reasons.push_back(std::move(line));
}

void explain_left_out(const cluster& on, const plan_wishes& w, const plan_alternatives& other,
                      cluster_plan& plan) {
  std::map<int, std::size_t> index;
  for (std::size_t i = 0; i < on.ranks.size(); ++i) index[on.ranks[i].rank] = i;
  for (std::size_t i = 0; i < plan.left_out.size(); ++i) {
    const auto rank = plan.left_out[i];
    if (i == most_told) {
      plan.reasons.push_back(std::to_string(plan.left_out.size() - i) + " more ranks left out alike");
      return;
    }
    // As one more of the smallest pipeline.
    const auto p =
        std::min_element(plan.pipelines.begin(), plan.pipelines.end(), [](const auto& a, const auto& b) {
          return a.expected.answer_tokens_per_s < b.expected.answer_tokens_per_s;
        });
    std::vector<std::size_t> ranks;
    for (const auto& s : p->stages) ranks.push_back(index.at(s.rank));
    const auto without = cut_any_order(other.problem(ranks, p->sequences), 0, chain_goal::slowest).slowest;
    ranks.push_back(index.at(rank));
    const auto with = slowest_with(other.problem(ranks, p->sequences), 0, ranks.size() - 1);
    auto line = "rank " + std::to_string(rank) + " left out: ";
    if (w.goal == plan_goal::latency) {
      line += with == std::numeric_limits<double>::infinity()
                  ? "its memory does not hold one layer"
                  : "one stage more is one hop more for every token, and nothing is faster for it";
      plan.reasons.push_back(std::move(line));
      continue;
    }
    if (with == std::numeric_limits<double>::infinity())
      line += "its memory does not hold one layer";
    else if (with > without * 1.005)
      line += format("it would slow the pipeline by %.0f %%", 100 * (with / without - 1));
    else
      line += "one stage more would gain nothing";
    plan.reasons.push_back(std::move(line));
  }
}

void explain_pace(const model_work& model, const plan_wishes& w, cluster_plan& plan) {
  for (std::size_t i = 0; i < std::min(plan.pipelines.size(), most_told); ++i) {
    const auto& p = plan.pipelines[i];
    const auto name = plan.pipelines.size() > 1 ? "pipeline " + std::to_string(i) + ": " : std::string{};
    if (p.stages.size() > 1) {
      const auto slowest =
          std::max_element(p.stages.begin(), p.stages.end(),
                           [](const auto& a, const auto& b) { return a.decode_s < b.decode_s; });
      double mean = 0;
      for (const auto& s : p.stages) mean += s.decode_s / static_cast<double>(p.stages.size());
      plan.reasons.push_back(name + "rank " + std::to_string(slowest->rank) +
                             format(" sets the pace: %s ms a decode step, %s ms on average",
                                    three_digits(1e3 * slowest->decode_s).c_str(),
                                    three_digits(1e3 * mean).c_str()));
    }
    const auto tightest =
        std::min_element(p.stages.begin(), p.stages.end(), [](const auto& a, const auto& b) {
          return a.kv_bytes / (a.last_layer - a.first_layer) < b.kv_bytes / (b.last_layer - b.first_layer);
        });
    const auto wanted = w.goal == plan_goal::latency && w.batch == 0 ? 1.0
                        : w.batch > 0 ? std::ceil(w.batch / static_cast<double>(plan.pipelines.size()))
                                      : w.max_batch * static_cast<double>(p.stages.size());
    if (model.layer.kv_bytes > 0 && p.sequences < wanted)
      plan.reasons.push_back(name + "room for the KV of " + number(p.sequences) + " sequences, not of " +
                             number(wanted) + ": rank " + std::to_string(tightest->rank) +
                             " has the least memory for its layers");
  }
}

}  // namespace

void explain(const model_work& model, const cluster& on, const plan_wishes& w, const plan_alternatives& other,
             cluster_plan& plan) {
  explain_shape(w, other, plan);
  explain_left_out(on, w, other, plan);
  for (std::size_t i = 0; i < std::min(plan.spares.size(), most_told); ++i)
    plan.reasons.push_back("rank " + std::to_string(plan.spares[i]) +
                           " is a spare: of those that serve none is slower");
  explain_pace(model, w, plan);
}

std::string no_room(const model_work& model, const cluster& on, const std::vector<std::size_t>& ranks,
                    const plan_wishes& w) {
  double have = 0;
  for (const auto r : ranks) have += w.usable_memory * on.ranks[r].memory_bytes;
  const auto context = std::max(w.context_tokens, w.prompt_tokens + w.answer_tokens);
  const auto kv = model.layers * model.layer.kv_bytes * context;
  const auto need = model.bytes() + kv;
  auto out = "the model does not fit: it needs " + gibibytes(need) + " (" + gibibytes(kv) +
             " for the KV of " + number(context) + " tokens), and " + std::to_string(ranks.size()) +
             (ranks.size() == 1 ? " rank offers " : " ranks offer ") + gibibytes(have);
  if (w.replicas > 1)
    out += "; " + std::to_string(w.replicas) + " pipelines need that each";
  else if (have >= need)
    out += " in parts that hold no whole layers, embedding or head";
  return out;
}

}  // namespace fastserve::planner
