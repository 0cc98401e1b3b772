#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "planner/work.hpp"

namespace fastserve::planner {

/// What one rank can do, measured or told. Rates are those that the engine's own operations reach, not what
/// the hardware could do at best.
struct rank_profile {
  int rank = 0;
  int group = 0;                                ///< ranks of a group have equal links to all others
  std::string name;                             ///< of the group or host, for people
  std::array<double, arithmetics> ops_per_s{};  ///< products of many rows; 0 = never used
  double bytes_per_s = 0;                       ///< of weights that a product of one row reads
  double elements_per_s = 0;                    ///< of operations between products; 0 = for nothing
  double step_s = 0;                            ///< fixed cost of a step: messages, scheduling, waking up
  double operation_s = 0;                       ///< fixed cost of one operation of a layer
  double memory_bytes = 0;                      ///< for weights and KV
  /// Times that arithmetic and reading are faster while the other ranks of the host wait, as they do for a
  /// lone sequence: cores and memory are shared.
  double alone_ops = 1;
  double alone_bytes = 1;

  rank_profile alone() const {
    auto out = *this;
    for (auto& r : out.ops_per_s) r *= alone_ops;
    out.elements_per_s *= alone_ops;
    out.bytes_per_s *= alone_bytes;
    return out;
  }
};

/// Between two ranks.
struct link {
  double latency_s = 0;
  double bytes_per_s = 0;  ///< 0 = without limit

  double seconds(double bytes) const { return latency_s + (bytes_per_s > 0 ? bytes / bytes_per_s : 0); }
};

/// The ranks of a job and how they reach each other.
struct cluster {
  std::vector<rank_profile> ranks;
  std::size_t groups = 1;
  std::vector<link> links{link{}};  ///< [groups, groups]; the diagonal is within a group

  const rank_profile& profile(int rank) const { return ranks[static_cast<std::size_t>(rank)]; }
  const link& between(const rank_profile& a, const rank_profile& b) const {
    return links[static_cast<std::size_t>(a.group) * groups + static_cast<std::size_t>(b.group)];
  }
};

}  // namespace fastserve::planner
