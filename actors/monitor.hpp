#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "actors/failover_options.hpp"
#include "actors/liveness.hpp"
#include "actors/protocol.hpp"
#include "actors/stragglers.hpp"
#include "mpi/datagrams.hpp"

namespace fastserve::actors {

/// What a rank has to do in its pipeline.
struct rank_share {
  double share = 0;   ///< planned time of its part of a step, any unit; 0: none
  int pipeline = -1;  ///< only ranks of the same one do the same steps
  std::uint32_t epoch = 0;
  bool operator==(const rank_share&) const = default;
};

struct monitor_setup {
  failover_options options;
  int rank = 0;                   ///< its own
  std::vector<node_actor> nodes;  ///< [ranks]
  std::set<int> dead;             ///< ranks that are so already
  /// For the first heartbeats: connections are made, and many ranks may start at once on few cores.
  std::chrono::nanoseconds grace = std::chrono::seconds{15};
  std::function<std::uint32_t()> epoch;
  std::function<std::chrono::nanoseconds()> stalled_for;  ///< the pump
  /// A rank has been silent for `silence`: it is dead from here on. On the monitor's thread.
  std::function<void(int rank, std::chrono::nanoseconds silence)> lost;
  /// Since when at least half of the others have been heard, each at least once. On the monitor's thread,
  /// after `lost`.
  std::function<void(liveness::time since)> most_heard;
  const mpi::datagrams* datagrams = nullptr;        ///< outlives the monitor; null: none are sent
  std::function<std::vector<rank_share>()> shares;  ///< [ranks]
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
  std::vector<rank_share> shares_;  // [ranks], once known
  liveness::time interval_end_;
};

}  // namespace fastserve::actors
