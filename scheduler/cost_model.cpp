#include "scheduler/cost_model.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace fastserve::scheduler {

namespace {

constexpr std::size_t terms = 4;
using matrix = std::array<std::array<double, terms>, terms>;
using vector = std::array<double, terms>;

// Below this part of its own square a pivot is rounding: the terms depend on each other.
constexpr double least_pivot = 1e-9;

// A step's weight halves every 3500 steps.
constexpr double keep = 0.9998;

// Solving takes a few microseconds: at every one of the first steps, then at every so many.
constexpr std::uint64_t first_steps = 16;
constexpr std::uint64_t solve_every = 32;

time nanoseconds_of(double ns) { return time{static_cast<std::int64_t>(std::llround(ns))}; }

// Solves the normal equations over the terms of `chosen`, the others zero; nothing when they are dependent.
std::optional<vector> solve_for(matrix a, vector b, unsigned chosen) {
  for (std::size_t i = 0; i < terms; ++i) {
    if ((chosen >> i & 1U) == 0) continue;
    const double scale = a[i][i];
    for (std::size_t j = 0; j < i; ++j) {
      if ((chosen >> j & 1U) == 0) continue;
      const double factor = a[i][j] / a[j][j];
      for (std::size_t k = 0; k < terms; ++k) a[i][k] -= factor * a[j][k];
      b[i] -= factor * b[j];
    }
    if (!(a[i][i] > least_pivot * scale)) return std::nullopt;
  }
  vector x{};
  for (std::size_t i = terms; i-- > 0;) {
    if ((chosen >> i & 1U) == 0) continue;
    double rest = b[i];
    for (std::size_t k = i + 1; k < terms; ++k) rest -= a[i][k] * x[k];
    x[i] = rest / a[i][i];
  }
  return x;
}

}  // namespace

void cost_model::observe(const step_size& size, time spent) {
  const vector x{1.0, static_cast<double>(size.rows), static_cast<double>(size.draws),
                 static_cast<double>(size.context)};
  const auto y = static_cast<double>(spent.count());
  for (std::size_t i = 0; i < terms; ++i) {
    for (std::size_t j = 0; j < terms; ++j) products_[i][j] = keep * products_[i][j] + x[i] * x[j];
    targets_[i] = keep * targets_[i] + x[i] * y;
  }
  ++steps_;
  if (steps_ <= first_steps || steps_ % solve_every == 0) costs_ = solve();
}

void cost_model::include(std::span<const cost_model* const> others) {
  for (const auto* other : others) {
    for (std::size_t i = 0; i < terms; ++i) {
      for (std::size_t j = 0; j < terms; ++j) products_[i][j] += other->products_[i][j];
      targets_[i] += other->targets_[i];
    }
    steps_ += other->steps_;
  }
  costs_ = solve();
}

// The first row of the sums is that of the constant term: the sums of the sizes and of the times themselves.
double cost_model::times(const step_costs& costs) const {
  const auto& sizes = products_[0];
  const auto expected = costs.fixed_ns * sizes[0] + costs.row_ns * sizes[1] + costs.draw_ns * sizes[2] +
                        costs.context_ns * sizes[3];
  return expected > 0 ? targets_[0] / expected : 0;
}

time step_costs::compute(const step_size& size) const {
  return nanoseconds_of(fixed_ns + row_ns * static_cast<double>(size.rows) +
                        context_ns * static_cast<double>(size.context));
}

time step_costs::draw(const step_size& size) const {
  return nanoseconds_of(draw_ns * static_cast<double>(size.draws));
}

time step_costs::decode_step() const { return nanoseconds_of(fixed_ns + row_ns + draw_ns); }

time step_costs::prefill(std::int64_t tokens, std::int64_t cached, std::int64_t chunk) const {
  if (tokens == 0) return {};
  const auto chunks = std::max<std::int64_t>((tokens + chunk - 1) / chunk, 1);
  const auto n = static_cast<double>(tokens);
  const double context = n * static_cast<double>(cached) + n * (n + 1) / 2;
  return nanoseconds_of(fixed_ns * static_cast<double>(chunks) + row_ns * n + draw_ns + context_ns * context);
}

std::int64_t step_costs::chunk(std::int64_t rows, std::int32_t stages, std::int64_t least) const {
  const auto most = static_cast<double>(std::max<std::int64_t>(rows / std::max<std::int64_t>(least, 1), 1));
  const double best = std::sqrt((stages - 1) * row_ns * static_cast<double>(rows) / fixed_ns);
  // No number if neither costs anything, infinite if a step has no fixed costs.
  const double chunks = best > 1 ? std::min(std::round(best), most) : 1;
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(rows) / chunks));
}

step_costs cost_model::solve() const {
  // Four terms: every subset can be tried. The best fit without negative costs is among them.
  vector best{};
  double best_gain = 0;
  for (unsigned chosen = 1; chosen < 1U << terms; ++chosen) {
    const auto x = solve_for(products_, targets_, chosen);
    if (!x || std::any_of(x->begin(), x->end(), [](double v) { return v < 0; })) continue;
    double gain = 0;  // how much of the squared times the fit explains
    for (std::size_t i = 0; i < terms; ++i) gain += (*x)[i] * targets_[i];
    if (gain > best_gain) {
      best_gain = gain;
      best = *x;
    }
  }
  return {best[0], best[1], best[2], best[3]};
}

}  // namespace fastserve::scheduler
