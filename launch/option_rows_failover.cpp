#include "launch/option_rows.hpp"

namespace fastserve::launch {

std::vector<option_spec> failover_rows() {
  const commands runs{command::console, command::batch, command::bench, command::bench_serve};
  constexpr std::int64_t longest = 3'600'000;
  std::vector<option_spec> rows;
  rows.push_back(integer(
      {"failover", "spare_ranks", "N", "ranks kept without layers, to take over those of one that dies"},
      runs, 0, 65536, [](auto& o) -> auto& { return o.failover.spare_ranks; }));
  rows.push_back(choice(
      {"failover", "spares", "KIND", "hot: they hold weights ready; cold: they load them when a rank dies"},
      runs, {"hot", "cold"}, [](auto& o) -> auto& { return o.failover.spares; }));
  rows.push_back(choice(
      {"failover", "standby", "on|off", "another rank takes the place of a leader that dies"},
      {command::batch}, {"on", "off"}, [](auto& o) -> auto& { return o.failover.standby; }));
  rows.push_back(integer(
      {"failover", "heartbeat_ms", "MS", "between two signs of life of a rank"}, runs, 1, longest,
      [](auto& o) -> auto& { return o.failover.heartbeat_ms; }));
  rows.push_back(integer(
      {"failover", "deadline_ms", "MS", "a rank that is silent for this long is dead"}, runs, 2, longest,
      [](auto& o) -> auto& { return o.failover.deadline_ms; }));
  rows.push_back(integer(
      {"failover", "fence_ms", "MS", "a rank that hears no leader for this long ends itself"}, runs, 2,
      longest, [](auto& o) -> auto& { return o.failover.fence_ms; }));
  rows.push_back(integer(
      {"failover", "stall_ms", "MS",
       "MPI may be silent for this long while a rank's datagrams arrive; 0: none are sent"},
      runs, 0, longest, [](auto& o) -> auto& { return o.failover.stall_ms; }));
  rows.push_back(integer(
      {"failover", "start_timeout", "SECONDS", "all ranks must have started in this time; 0: for ever"}, runs,
      0, 86'400, [](auto& o) -> auto& { return o.failover.start_timeout_s; }));
  return rows;
}

}  // namespace fastserve::launch
