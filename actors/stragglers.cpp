#include "actors/stragglers.hpp"

#include <utility>

#include "actors/median.hpp"

namespace fastserve::actors {

namespace {

// Steps in an interval from which its mean says something.
constexpr std::uint64_t least_steps = 20;

// Intervals in a row: one alone may be a neighbour's compile job.
constexpr int patience = 3;

}  // namespace

void stragglers::set_shares(const std::vector<double>& shares, const std::vector<int>& groups) {
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    ranks_[r] = {};
    ranks_[r].share = r < shares.size() ? shares[r] : 0;
    ranks_[r].group = r < groups.size() ? groups[r] : 0;
  }
}

void stragglers::heard(std::size_t rank, std::uint64_t steps, std::int64_t compute_ns) {
  auto& r = ranks_.at(rank);
  r.steps = steps;
  r.compute_ns = compute_ns;
  if (r.known) return;
  r.known = true;
  r.steps_before = steps;
  r.compute_before_ns = compute_ns;
}

std::vector<stragglers::finding> stragglers::look() {
  std::vector<double> pace(ranks_.size(), 0);  // time of a step over what was planned, 0 = unknown
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    auto& r = ranks_[i];
    const auto steps = r.steps - r.steps_before;
    if (r.known && r.share > 0 && steps >= least_steps)
      pace[i] =
          static_cast<double>(r.compute_ns - r.compute_before_ns) / static_cast<double>(steps) / r.share;
    r.steps_before = r.steps;
    r.compute_before_ns = r.compute_ns;
  }
  std::vector<finding> out;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    if (pace[i] <= 0) continue;
    std::vector<double> others;
    for (std::size_t j = 0; j < ranks_.size(); ++j)
      if (j != i && ranks_[j].group == ranks_[i].group && pace[j] > 0) others.push_back(pace[j]);
    if (others.empty()) continue;
    const auto times = pace[i] / median(std::move(others));
    auto& count = ranks_[i].slow_intervals;
    count = times > factor_ ? count + 1 : 0;
    if (count == patience) out.push_back({i, times});
  }
  return out;
}

}  // namespace fastserve::actors
