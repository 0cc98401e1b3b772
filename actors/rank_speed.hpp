#pragma once

#include <map>
#include <vector>

namespace fastserve::actors {

/// What a rank's operations reach, see planner::rank_profile; all zero: not measured.
struct rank_speed {
  std::vector<double> ops_per_s;  ///< [planner::arithmetics]
  double bytes_per_s = 0;
  double elements_per_s = 0;
  double operation_s = 0;
  double alone_ops = 1;  ///< times faster while the other ranks of the host wait
  double alone_bytes = 1;
  bool known() const { return bytes_per_s > 0; }
};

/// By rank number; a rank that is not there was not measured.
using rank_speeds = std::map<int, rank_speed>;

}  // namespace fastserve::actors
