#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "planner/stage_time.hpp"

namespace fastserve::planner {

/// A chain of equal layers to be cut into contiguous stages, each on a rank of its own: which ranks, in which
/// order, and where to cut. Times and bytes are affine in the number of layers.
struct chain_problem {
  struct place {
    stage_line time;  ///< of a stage on this rank, any unit
    double memory_bytes = 0;
    std::size_t group = 0;
  };
  std::int32_t layers = 0;
  double layer_bytes = 0;  ///< of a layer's weights and the least KV worth starting with
  double embedding_bytes = 0;
  double head_bytes = 0;
  std::vector<place> ranks;
  std::size_t groups = 1;
  /// Time of a hop between two groups, [groups, groups]; the diagonal is within a group.
  std::vector<double> hops{0.0};

  double hop(std::size_t from, std::size_t to) const {
    return hops[ranks[from].group * groups + ranks[to].group];
  }
  double bytes(std::int32_t count, bool embeds, bool heads) const {
    return count * layer_bytes + (embeds ? embedding_bytes : 0) + (heads ? head_bytes : 0);
  }
  /// True when every two ranks in use are equally far apart: then their order matters only for who embeds
  /// and who has the head.
  bool equal_hops() const;
};

/// What is made as small as can be.
enum class chain_goal : std::uint8_t {
  slowest,  ///< the slowest stage or hop: throughput
  sum       ///< all stages and hops together: latency
};

/// A cut: stage i runs layers [first, last) on ranks[rank].
struct chain_cut {
  struct stage {
    std::size_t rank = 0;
    std::int32_t first = 0;
    std::int32_t last = 0;
  };
  std::vector<stage> stages;  ///< empty: there is none, memory does not do
  double slowest = 0;         ///< stage or hop
  double sum = 0;
  bool found() const { return !stages.empty(); }
};

/// The best cut over `order` (indices of ranks, at most as many as there are layers), any of which may be
/// left out. Exact: for `slowest` the smallest bound under which all layers find a place, by dynamic
/// programming over the last rank used; for `sum` dynamic programming over last rank and layers.
chain_cut cut_in_order(const chain_problem& problem, const std::vector<std::size_t>& order, chain_goal goal);

/// The best cut over any order of any of the ranks, at most `most_stages` of them (0 = any number; bounds
/// `slowest` only).
///
/// Exact where hops are equal: the layers a rank can take do not depend on its place but for the first and
/// the last, so all pairs of those are compared. Exact by trying all orders for up to 6 ranks otherwise. For
/// more, heuristic: ranks as if hops were equal, groups one after the other by nearest neighbour and 2-opt,
/// against each group alone; then the exact cut of that order.
chain_cut cut_any_order(const chain_problem& problem, std::int32_t most_stages, chain_goal goal);

/// The least `slowest` of any order when rank `with` must have a layer (hops taken as equal). Infinite when
/// there is no cut.
double slowest_with(const chain_problem& problem, std::int32_t most_stages, std::size_t with);

}  // namespace fastserve::planner
