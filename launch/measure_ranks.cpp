#include "launch/measure_ranks.hpp"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>

namespace fastserve::launch {

namespace {

// With more ranks on a host their turns take too long.
constexpr int most_turns = 8;

}  // namespace

std::optional<actors::rank_speed> measure_ranks(kernels::backend& on,
                                                const std::vector<planner::arithmetic>& kinds,
                                                mpi::environment& env) {
  std::unique_ptr<actors::speed_bench> bench;
  try {
    bench = std::make_unique<actors::speed_bench>(on, kinds);
  } catch (const std::exception&) {
    // Serving may need less.
  }
  const auto meet = [&] { env.barrier(); };
  if (bench)
    bench->measure_together(meet);
  else
    for (auto left = actors::speed_bench::phases(kinds); left > 0; --left) meet();
  int most = 1;
  for (const auto& size : env.allgather(std::to_string(env.local_size())))
    most = std::max(most, std::stoi(size));
  for (int turn = 0; most > 1 && most <= most_turns && turn < most; ++turn) {
    env.barrier();
    if (bench && turn == env.local_rank()) bench->measure_alone();
  }
  env.barrier();
  return bench ? std::optional{bench->result()} : std::nullopt;
}

}  // namespace fastserve::launch
