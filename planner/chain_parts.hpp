#pragma once

#include <functional>
#include <limits>
#include <vector>

#include "planner/chain.hpp"

// What cut_in_order and cut_any_order share. Internal to planner/.

namespace fastserve::planner {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr auto nobody = static_cast<std::size_t>(-1);  ///< no rank

/// Layers, at least 1, that a rank can take: within its memory and, as a stage, within `bound`. 0 = none.
std::int32_t room(const chain_problem& problem, std::size_t rank, double bound, bool embeds, bool heads);

/// The rooms of some ranks under one bound, by what else they have to do.
struct rooms {
  struct place {
    std::int32_t between = 0, first = 0, last = 0, alone = 0;
  };
  double bound;
  std::vector<place> of;  ///< [all ranks]

  rooms(const chain_problem& problem, const std::vector<std::size_t>& ranks, double bound);
};

/// cut_in_order() for `slowest`, when a cut as slow as `at` is known; none when this order has none as good.
/// `below` is lower by so much that it counts.
chain_cut cut_within(const chain_problem& problem, const std::vector<std::size_t>& order, const rooms& at,
                     const rooms& below);

/// The least bound that `feasible` holds for, to 1e-13 of it; infinite when it holds for none. `feasible` is
/// monotone, and holds for `known` if that is finite.
double least_bound(const chain_problem& problem, const std::function<bool(double)>& feasible,
                   double known = infinite);

/// Layers over the ranks of `path` in this order, each at least one and within `bound`, the slowest stages as
/// fast as possible. The ranks have the room.
chain_cut fill(const chain_problem& problem, const std::vector<std::size_t>& path, double bound);

/// Fills in `slowest` and `sum`.
void judge(const chain_problem& problem, chain_cut& cut);

}  // namespace fastserve::planner
