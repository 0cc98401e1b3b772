#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/messages.hpp"
#include "actors/rank_speed.hpp"
#include "kernels/backend.hpp"
#include "planner/cluster.hpp"

namespace fastserve::actors {

/// Measures the operations of a back end, each for about 0.12 s, with the back end's threads. Takes 160 MiB
/// while it lives. The median of several rounds counts. Ranks of a host measure the same operation at the
/// same time, then one rank after the other.
class speed_bench {
 public:
  /// `kinds`: products to measure; the first is that of the model. Throws std::bad_alloc.
  speed_bench(kernels::backend& on, std::vector<planner::arithmetic> kinds);
  ~speed_bench();

  /// `meet` returns when all ranks have called it: before each of phases() measurements, so that what shares
  /// a core or a memory channel is busy with the same.
  void measure_together(const std::function<void()>& meet);
  /// After that: while the others of the host wait.
  void measure_alone();
  const rank_speed& result() const { return speed_; }

  /// How often measure_together() meets the others.
  static std::size_t phases(const std::vector<planner::arithmetic>& kinds);

 private:
  struct parts;
  std::vector<planner::arithmetic> kinds_;
  std::unique_ptr<parts> parts_;
  rank_speed speed_;
};

/// The name under which a measurement is kept: processor, instruction set, threads,
/// what products compute with, ranks that measured at once, program version.
std::string speed_key(const kernels::backend& on, planner::arithmetic kind, int local_ranks);

/// A folder of measurements: a line of text in a file for each key. A file that is missing, torn or of
/// another key counts as none. The folder is made when needed; failing to write is no error, for the next
/// start measures again.
class speed_cache {
 public:
  /// Empty: $XDG_CACHE_HOME/fastserve, ~/.cache/fastserve, or none where neither is set.
  explicit speed_cache(std::filesystem::path folder = {});
  std::optional<rank_speed> find(const std::string& key) const;
  void keep(const std::string& key, const rank_speed& speed) const;

 private:
  std::filesystem::path file_of(const std::string& key) const;
  std::filesystem::path folder_;
};

/// A line of text with all figures, and back; nothing when it is not such a line.
std::string text_of(const rank_speed& speed);
std::optional<rank_speed> speed_from(const std::string& text);

/// As the planner takes it.
planner::rank_profile profile_of(const node_profile& node, const rank_speed& speed);

}  // namespace fastserve::actors
