#include "actors/replica_choice.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "actors/unequal_ranks.hpp"

namespace fastserve::actors {

namespace {

constexpr std::size_t every_number_up_to = 64;
constexpr double worth_fewer = 1.005;  // what a layout of fewer pipelines must gain

// A rank of a few cores. Between equal ranks only the ratio of rates to fixed costs matters.
rank_speed usual_speed() {
  rank_speed out;
  out.ops_per_s.assign(planner::arithmetics, 2e11);
  out.ops_per_s[static_cast<std::size_t>(planner::arithmetic::int8)] = 6e11;
  out.ops_per_s[static_cast<std::size_t>(planner::arithmetic::int4)] = 6e11;
  out.bytes_per_s = 2e10;
  out.elements_per_s = 4e9;
  out.operation_s = 5e-6;
  return out;
}

// Largest first.
std::vector<std::size_t> numbers_up_to(std::size_t ranks) {
  std::vector<std::size_t> out;
  for (auto n = ranks; n >= 1; n = n > every_number_up_to ? n * 4 / 5 : n - 1) out.push_back(n);
  return out;
}

std::string in_pipelines(std::size_t n) { return std::to_string(n) + (n == 1 ? " pipeline" : " pipelines"); }

}  // namespace

replica_choice choose_replicas(const rank_context& model, const std::map<int, node_profile>& profiles,
                               const rank_speeds& speeds, const std::vector<int>& ranks,
                               const planner::plan_wishes& wishes, double kv_tokens, const layouts& layout) {
  auto known = speeds;
  if (std::any_of(ranks.begin(), ranks.end(), [&](int r) {
        const auto at = speeds.find(r);
        return at == speeds.end() || !at->second.known();
      }))
    for (const auto rank : ranks) known[rank] = usual_speed();

  std::size_t best = 0, next = 0;
  double most = 0, second = 0;
  for (const auto n : numbers_up_to(ranks.size())) {
    const auto plans = layout(n);
    double sum = 0;
    bool whole = !plans.empty();
    for (const auto& p : plans) {
      if (whole = whole && p.error.empty(); !whole) break;
      auto sequences = wishes.max_batch * static_cast<double>(p.stages.size());
      if (kv_tokens > 0)
        sequences =
            std::min(sequences, std::floor(kv_tokens / (wishes.prompt_tokens + wishes.answer_tokens)));
      sum += expected_of(model, profiles, known, p.stages, wishes, sequences).answer_tokens_per_s;
    }
    if (!whole) continue;
    if (best == 0 || sum > most * worth_fewer) {
      next = best;
      second = most;
      best = n;
      most = sum;
    } else if (sum > second) {
      next = n;
      second = sum;
    }
  }
  replica_choice out;
  if (best == 0) {
    out.reason = "1 pipeline: no number of them fits";
    return out;
  }
  out.pipelines = best;
  out.reason = in_pipelines(best) + " of " + std::to_string(ranks.size()) + " ranks: ";
  if (next == 0) {
    out.reason += "the only number that fits";
    return out;
  }
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%.0f %% of the answer tokens a second are expected of %zu",
                100 * second / most, next);
  out.reason += text.data();
  return out;
}

}  // namespace fastserve::actors
