#include "kernels/cuda/graphs.hpp"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/kv.hpp"

namespace fastserve::kernels::cuda {

bool graphs_wanted() {
  const char* value = std::getenv("FASTSERVE_CUDA_GRAPHS");
  if (value == nullptr || std::string_view{value} == "1") return true;
  if (std::string_view{value} == "0") return false;
  throw std::runtime_error("FASTSERVE_CUDA_GRAPHS is '" + std::string{value} + "', expected 0 or 1");
}

graph_exec captured(cudaStream_t on, const std::function<void()>& ops) {
  // Other threads allocate, copy and wait as they like; this one may not until the end.
  check(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  std::exception_ptr broken;
  try {
    ops();
  } catch (const std::exception&) {
    // Whoever runs the ops again meets it again, if it was not the capture's.
    broken = std::current_exception();
  }
  cudaGraph_t graph = nullptr;
  // Also ends a capture that an op has broken.
  const auto ended = cudaStreamEndCapture(on, &graph);
  const std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, decltype(&cudaGraphDestroy)> owner{
      graph, &cudaGraphDestroy};
  if (broken) std::rethrow_exception(broken);
  check(ended, "cudaStreamEndCapture");
  std::size_t nodes = 0;
  check(cudaGraphGetNodes(graph, nullptr, &nodes), "cudaGraphGetNodes");
  cudaGraphExec_t made = nullptr;
  check(cudaGraphInstantiateWithFlags(&made, graph, 0), "cudaGraphInstantiate");
  return graph_exec{made, nodes};
}

cuda_recorder::cuda_recorder(int ordinal, bool wanted, const std::uint64_t& moves, recorder_limits limits)
    : ordinal_{(use_device(ordinal), ordinal)},
      moves_{moves},
      limits_{limits},
      seen_moves_{moves},
      wanted_{wanted} {}

cuda_recorder::~cuda_recorder() {
  cudaSetDevice(ordinal_);
  forget();
}

std::size_t cuda_recorder::graphs() const {
  return static_cast<std::size_t>(
      std::count_if(known_.begin(), known_.end(), [](const known_shape& k) { return bool{k.graph}; }));
}

void cuda_recorder::run(const step_plan& step, const kv_store& kv, stream& on,
                        const std::function<void()>& ops) {
  const auto& plan = static_cast<const cuda_plan&>(step);
  if (!wanted_ || gave_up() || !plan.in_place()) return run_plainly(ops);
  follow_moves();
  const auto& store = static_cast<const device_kv_store&>(kv);
  const shape_key key{plan.shape(), store.shape().layers > 0 ? store.layer(0) : kv_layout{}, handle_of(on)};
  const auto found =
      std::find_if(known_.begin(), known_.end(), [&](const known_shape& k) { return k.key == key; });
  if (found == known_.end()) {
    run_plainly(ops);
    follow_moves();
    known_.insert(known_.begin(), known_shape{key, {}});
    return bound();
  }
  std::rotate(known_.begin(), found, found + 1);
  auto& graph = known_.front().graph;
  const bool there{graph};
  try {
    if (!there) graph = captured(key.on, ops);
    check(cudaGraphLaunch(graph.handle(), key.on), "cudaGraphLaunch");
  } catch (const std::bad_alloc&) {
    failure_ = "the device has no memory left";
  } catch (const std::exception& e) {
    failure_ = e.what();
  }
  if (gave_up()) {
    // Nothing of the step has been queued: it is run as if there were no graphs, and so are all others.
    cudaGetLastError();  // or the next launch reports it
    forget();
    return run_plainly(ops);
  }
  launched_.record(key.on);
  ++(there ? steps_.replayed : steps_.captured);
  if (!there) bound();
}

void cuda_recorder::run_plainly(const std::function<void()>& ops) {
  ops();
  ++steps_.plain;
}

/// Graphs know where scratch was.
void cuda_recorder::follow_moves() {
  if (moves_ != seen_moves_) forget();
  seen_moves_ = moves_;
}

void cuda_recorder::wait_for_graphs() {
  // Errors are met again by the next call on the device.
  if (cudaEventSynchronize(launched_.handle()) != cudaSuccess) cudaGetLastError();
}

void cuda_recorder::forget() {
  if (graphs() > 0) wait_for_graphs();
  known_.clear();
}

/// Drops the shapes that have not been used for longest, beyond the limits. The last used stays.
void cuda_recorder::bound() {
  auto nodes = std::accumulate(known_.begin(), known_.end(), std::size_t{0},
                               [](std::size_t sum, const known_shape& k) { return sum + k.graph.nodes(); });
  while (known_.size() > 1 && (known_.size() > limits_.shapes || nodes > limits_.nodes)) {
    if (known_.back().graph) wait_for_graphs();
    nodes -= known_.back().graph.nodes();
    known_.pop_back();
  }
}

}  // namespace fastserve::kernels::cuda
