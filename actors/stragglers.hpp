#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastserve::actors {

/// Which rank takes longer for its steps than its share of the model explains. A plain object: told of the
/// ranks' counters as they come, asked at even intervals.
class stragglers {
 public:
  struct finding {
    std::size_t rank = 0;
    double times = 0;  ///< as long as the others' steps would have it
  };

  /// Slow is who takes `factor` times as long as the median of the others, in three intervals one after
  /// another.
  stragglers(std::size_t ranks, double factor) : factor_{factor}, ranks_(ranks) {}

  /// The planned time of each rank's part of a step, in any unit; 0 = none. Ranks are compared within their
  /// group (none given: one for all): others do other steps. Everything before is forgotten.
  void set_shares(const std::vector<double>& shares, const std::vector<int>& groups = {});
  /// Counters of a rank since its start.
  void heard(std::size_t rank, std::uint64_t steps, std::int64_t compute_ns);
  /// At the end of an interval: who is newly found to be slow.
  std::vector<finding> look();

 private:
  struct entry {
    double share = 0;
    int group = 0;
    std::uint64_t steps = 0;
    std::int64_t compute_ns = 0;
    std::uint64_t steps_before = 0;
    std::int64_t compute_before_ns = 0;
    int slow_intervals = 0;
    bool known = false;  // has been heard of since the shares
  };
  double factor_;
  std::vector<entry> ranks_;
};

}  // namespace fastserve::actors
