#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/memory.hpp"
#include "kernels/cuda/plan.hpp"

// Decode steps as CUDA graphs. A step of a row for each of a few sequences is hundreds of small kernels,
// which the host takes longer to launch than the device to run. What the launches are is decided by the
// plan's shape and by addresses that stay; what changes from step to step is in the plan's memory. So the
// launches of a step are captured when its shape comes for the second time, and launched by one call from
// then on. The first time the ops run as they are, by which scratch has grown and kernels are loaded: neither
// may happen in a capture.

namespace fastserve::kernels::cuda {

/// Whether FASTSERVE_CUDA_GRAPHS wants graphs: unset or "1"; "0" does not. Throws std::runtime_error for
/// anything else.
bool graphs_wanted();

/// A graph made ready for launching; null is none.
class graph_exec {
 public:
  graph_exec() = default;
  explicit graph_exec(cudaGraphExec_t handle, std::size_t nodes) : handle_{handle}, nodes_{nodes} {}
  graph_exec(graph_exec&& other) noexcept { *this = std::move(other); }
  graph_exec& operator=(graph_exec&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(nodes_, other.nodes_);
    return *this;
  }
  ~graph_exec() {
    if (handle_ != nullptr) cudaGraphExecDestroy(handle_);
  }
  explicit operator bool() const { return handle_ != nullptr; }
  cudaGraphExec_t handle() const { return handle_; }
  std::size_t nodes() const { return nodes_; }

 private:
  cudaGraphExec_t handle_ = nullptr;
  std::size_t nodes_ = 0;
};

/// Captures what `ops` queues on `on`. Other threads may use the device meanwhile. Throws what `ops` throw,
/// and std::runtime_error where CUDA refuses; nothing was queued then.
graph_exec captured(cudaStream_t on, const std::function<void()>& ops);

struct recorder_limits {
  std::size_t shapes = 64;  ///< remembered, with a graph or without
  /// Kernels of all graphs together: each takes device memory, which nobody has measured yet.
  std::size_t nodes = 16384;
};

class cuda_recorder final : public step_recorder {
 public:
  /// `moves`: counted up when scratch of the back end's ops moves (device_scratch).
  cuda_recorder(int ordinal, bool wanted, const std::uint64_t& moves, recorder_limits limits = {});
  ~cuda_recorder() override;

  void run(const step_plan& plan, const kv_store& kv, stream& on, const std::function<void()>& ops) override;

  /// How the steps so far were run.
  struct counts {
    std::uint64_t plain = 0;     ///< op by op
    std::uint64_t captured = 0;  ///< recorded, then launched
    std::uint64_t replayed = 0;  ///< by a graph that was there
  };
  const counts& steps() const { return steps_; }
  /// Graphs kept, and whether a failure has ended recording.
  std::size_t graphs() const;
  bool gave_up() const { return !failure_.empty(); }
  std::string_view failure() const override { return failure_; }

 private:
  struct shape_key {
    plan_shape plan;
    kv_layout kv;
    cudaStream_t on = nullptr;
    friend bool operator==(const shape_key&, const shape_key&) = default;
  };
  struct known_shape {
    shape_key key;
    graph_exec graph;
  };

  void run_plainly(const std::function<void()>& ops);
  void follow_moves();
  void wait_for_graphs();
  void forget();
  void bound();

  int ordinal_;
  const std::uint64_t& moves_;
  recorder_limits limits_;
  std::uint64_t seen_moves_;
  bool wanted_;
  std::string failure_;
  cuda_event launched_;             ///< behind the last graph
  std::vector<known_shape> known_;  ///< the last used first
  counts steps_;
};

}  // namespace fastserve::kernels::cuda
