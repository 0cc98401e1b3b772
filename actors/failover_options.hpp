#pragma once

#include <chrono>

namespace fastserve::actors {

/// How the loss of a rank is noticed and met.
struct failover_options {
  std::chrono::milliseconds heartbeat{100};  ///< between two signs of life
  std::chrono::milliseconds deadline{1000};  ///< a rank that is silent for this long is dead
  std::chrono::milliseconds fence{5000};     ///< a rank that hears no leader for this long ends itself
  int spare_ranks = 0;                       ///< kept without layers, to take over those of a dead rank
  bool hot_spares = true;                    ///< spares hold weights ready
  bool standby = false;                      ///< another rank takes a dead leader's place
  /// Over MPI a rank of another machine may be silent for this long while its datagrams arrive.
  std::chrono::milliseconds stall{30000};
  double slow_factor = 3;  ///< a rank this much slower than the others is reported
};

}  // namespace fastserve::actors
