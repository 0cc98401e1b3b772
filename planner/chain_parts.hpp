#pragma once

#include <functional>
#include <limits>

#include "planner/chain.hpp"

// What cut_in_order and cut_any_order share. Internal to planner/.

namespace fastserve::planner {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr auto nobody = static_cast<std::size_t>(-1);  ///< no rank

/// Layers, at least 1, that a rank can take: within its memory and, as a stage, within `bound`. 0 = none.
std::int32_t room(const chain_problem& problem, std::size_t rank, double bound, bool embeds, bool heads);

/// The least bound that `feasible` holds for, to 1e-13 of it; infinite when it holds for none. `feasible` is
/// monotone.
double least_bound(const chain_problem& problem, const std::function<bool(double)>& feasible);

/// Layers over the ranks of `path` in this order, each at least one and within `bound`, the slowest stages as
/// fast as possible. The ranks have the room.
chain_cut fill(const chain_problem& problem, const std::vector<std::size_t>& path, double bound);

/// Fills in `slowest` and `sum`.
void judge(const chain_problem& problem, chain_cut& cut);

}  // namespace fastserve::planner
