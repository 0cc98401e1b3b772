#pragma once

#include <functional>
#include <memory>

#include "actors/messages.hpp"
#include "actors/move_gate.hpp"
#include "kernels/backend.hpp"
#include "model/architecture.hpp"
#include "model/weight_source.hpp"
#include "mpi/tensor_channel.hpp"

namespace fastserve::actors {

/// What the actors of one rank are given to work with. Built once by the rank's host; outlives its actors.
struct rank_context {
  node_profile profile;
  std::uint32_t local_ranks = 1;  ///< ranks that share this host's memory
  model::architecture architecture;
  kernels::dtype compute_type = kernels::dtype::f32;
  kernels::dtype kv_type = kernels::dtype::f32;
  std::unique_ptr<kernels::backend> backend;
  std::unique_ptr<mpi::tensor_channel> channel;
  std::string swap_folder;  ///< of the node, for KV swapped to disk
  /// Between the rank's cache manager and its executor.
  std::unique_ptr<move_gate> moves = std::make_unique<move_gate>();
  std::function<std::unique_ptr<model::weight_source>()> open_weights;  ///< throws std::runtime_error
  std::function<void(const load_progress&)> report_progress;            ///< from the executor's thread
  std::function<void(int exit_code)> leave;                             ///< ends the rank; from any thread
};

}  // namespace fastserve::actors
