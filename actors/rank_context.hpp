#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/failover_options.hpp"
#include "actors/journal_replica.hpp"
#include "actors/messages.hpp"
#include "actors/move_gate.hpp"
#include "actors/protocol.hpp"
#include "kernels/backend.hpp"
#include "model/architecture.hpp"
#include "model/pack_cache.hpp"
#include "model/stored_form.hpp"
#include "model/weight_source.hpp"
#include "mpi/datagrams.hpp"
#include "mpi/linked_tensor_channel.hpp"
#include "mpi/tensor_channel.hpp"

namespace fastserve::actors {

/// How far a rank has come; written by its executor, read by its node.
struct rank_vitals {
  std::atomic<std::uint32_t> epoch{0};  ///< steps of earlier ones are over; written by the node
  std::atomic<std::uint64_t> steps{0};
  std::atomic<std::uint64_t> rows{0};
  std::atomic<std::int64_t> compute_ns{0};
};

/// What a rank knows when it takes the leader's place.
struct succeeded {
  std::set<int> lost;       ///< ranks, the old leader among them
  std::uint32_t epoch = 0;  ///< the last one that it heard of
  known_answers known;      ///< of the requests that were open
  std::chrono::nanoseconds silence{};
};

/// What the actors of one rank are given to work with. Built once by the rank's host; outlives its actors.
struct rank_context {
  node_profile profile;
  std::uint32_t memory_sharers = 1;  ///< ranks that share the memory of this one's device
  model::architecture architecture;
  kernels::dtype compute_type = kernels::dtype::f32;
  kernels::dtype kv_type = kernels::dtype::f32;
  failover_options failover;
  std::unique_ptr<rank_vitals> vitals = std::make_unique<rank_vitals>();
  std::optional<kernels::quantized_format> quantize;  ///< round weights to this while loading
  std::optional<model::stored_form> stored;           ///< matrices that the files hold as integers
  std::unique_ptr<kernels::backend> backend;
  std::unique_ptr<mpi::tensor_channel> channel;
  std::unique_ptr<mpi::device_link> device_link;  ///< to other ranks' devices; taken by the rank's host
  mpi::linked_tensor_channel* linked = nullptr;   ///< `channel`, where it has such a link
  std::unique_ptr<model::pack_cache> packed;      ///< packed weights of earlier starts; null: none are kept
  std::string swap_folder;                        ///< of the node, for KV swapped to disk
  /// Between the rank's cache manager and its executor.
  std::unique_ptr<move_gate> moves = std::make_unique<move_gate>();
  std::function<std::unique_ptr<model::weight_source>()> open_weights;  ///< throws std::runtime_error
  std::function<void(const load_progress&)> report_progress;            ///< from the executor's thread
  std::function<void(int exit_code)> leave;                             ///< ends the rank; from any thread
  std::function<void(int rank)> lose;                                   ///< that rank is dead
  std::function<void(std::uint32_t epoch)> begin_epoch;                 ///< earlier ones are over
  std::function<std::chrono::nanoseconds()> stalled_for;                ///< see message_pump::stalled_for
  std::function<void(const std::string& why)> fence;                    ///< ends the process at once
  std::vector<std::string> processes;                                   ///< [ranks], see mpi/process_mark.hpp
  std::unique_ptr<mpi::datagrams> datagrams;                            ///< null: none are sent
  std::function<node_actor(int rank)> node_of;
  std::function<monitor_actor(int rank)> monitor_of;
  std::function<void(int rank)> follow;  ///< that rank leads from here on
  std::function<void(succeeded)> lead;   ///< this rank does
};

}  // namespace fastserve::actors
