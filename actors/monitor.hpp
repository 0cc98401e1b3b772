#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "actors/failover_options.hpp"
#include "actors/liveness.hpp"
#include "actors/protocol.hpp"
#include "actors/stragglers.hpp"

namespace fastserve::actors {

struct monitor_setup {
  failover_options options;
  int rank = 0;                   ///< its own
  std::vector<node_actor> nodes;  ///< [ranks]
  std::function<std::uint32_t()> epoch;
  std::function<std::chrono::nanoseconds()> stalled_for;  ///< the pump
  /// A rank has been silent for `silence`: it is dead from here on. On the monitor's thread.
  std::function<void(int rank, std::chrono::nanoseconds silence)> lost;
  /// The planned time of each rank's part of a step in this epoch.
  std::function<std::vector<double>()> shares;
  /// A rank takes `times` as long for its steps as the others do for theirs. On the monitor's thread.
  std::function<void(int rank, double times)> slow;
};

/// Listens for the heartbeats of all ranks, and sends the leader's to them, on a thread of its own.
class monitor_state {
 public:
  static constexpr const char* name = "monitor";

  monitor_state(mpi::base_of<monitor_actor>* self, monitor_setup setup);
  monitor_actor::behavior_type make_behavior();

 private:
  void on_heartbeat(const heartbeat& beat);
  void on_tick();

  mpi::base_of<monitor_actor>* self_;
  monitor_setup setup_;
  liveness ranks_;
  std::vector<bool> dead_;
  stragglers steps_;
  std::uint32_t steps_epoch_ = 0;
  std::vector<double> shares_;
  liveness::time interval_end_;
};

}  // namespace fastserve::actors
