#pragma once

#include <memory>

#include "actors/message_fields.hpp"
#include "kernels/backend.hpp"
#include "mpi/errors.hpp"
#include "scheduler/scheduler.hpp"

// The typed interface of every role. The order of events is told in docs/architecture.md, "Life of a
// request".

namespace fastserve::actors {

/// Memory of the rank that two of its actors share; never leaves the process.
struct kv_handle {
  std::uint32_t epoch = 0;
  std::shared_ptr<kernels::kv_store> store;
};

/// The shape of the KV store that an executor's stage needs; from the executor to its own cache manager.
struct kv_need {
  std::uint32_t epoch = 0;
  kernels::kv_shape shape;  ///< blocks not yet set
};

/// From the coordinator to the scheduler, both on the leader.
struct pipeline_change;

/// An actor's own clock strikes.
struct tick {};

}  // namespace fastserve::actors

CAF_BEGIN_TYPE_ID_BLOCK(fastserve, fastserve::mpi::next_type_id)

CAF_ADD_TYPE_ID(fastserve, (fastserve::model::sampling_params))
CAF_ADD_TYPE_ID(fastserve, (fastserve::model::stop_params))
CAF_ADD_TYPE_ID(fastserve, (fastserve::model::token_logprob))
CAF_ADD_TYPE_ID(fastserve, (fastserve::model::sampled_token))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::profile_request))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::node_profile))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::link_request))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::link_offer))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::stage_assignment))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::stage_ready))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::stop_rank))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::kv_allotment))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::kv_ready))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::block_move))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::move_blocks))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::draw_order))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::sequence_work))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::micro_batch))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::executor_stats_request))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::executor_stats))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::submit))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::cancel))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::drawn_token))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::step_result))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::stats_request))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::scheduler_stats))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::answer_token))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::answer_tokens))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::answer_done))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::load_progress))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::model::token_logprob>))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::actors::block_move>))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::actors::draw_order>))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::actors::sequence_work>))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::actors::drawn_token>))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::actors::answer_token>))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::leader_beat))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::rank_lost))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::epoch_change))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::epoch_ready))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::heartbeat))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::heir_call))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::heir_reply))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::answer_part))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::journal_entry))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::journal_part))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::journal_ack))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::model::sampled_token>))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::actors::answer_part>))
CAF_ADD_TYPE_ID(fastserve, (std::vector<fastserve::actors::journal_entry>))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::tick))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::pipeline_change))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::kv_handle))
CAF_ADD_TYPE_ID(fastserve, (fastserve::actors::kv_need))

CAF_END_TYPE_ID_BLOCK(fastserve)

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(fastserve::actors::tick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(fastserve::actors::pipeline_change)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(fastserve::actors::kv_handle)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(fastserve::actors::kv_need)

namespace fastserve::actors {

/// Well-known addresses: an actor is found by {rank, role}.
enum class role : std::uint32_t {
  node = 1,
  executor = 2,
  cache_manager = 3,
  scheduler = 4,
  observer = 5,
  monitor = 6
};

/// Reports its rank, passes the leader's orders on to the rank's other actors, ends the rank.
using node_actor = mpi::protocol<
    // What is this rank made of?
    node_profile(profile_request),
    // Make the id of a link between devices.
    link_offer(link_request),
    // Load these layers (or none).
    stage_ready(stage_assignment),
    // Hold this many KV blocks.
    kv_ready(kv_allotment),
    // The leader lives.
    void(leader_beat),
    // A rank is no more.
    void(rank_lost),
    // The leader is silent for another rank, which asks whether it is for this one.
    void(heir_call),
    // What another rank says to that.
    void(heir_reply),
    // What the leader's standby is to know.
    journal_ack(journal_part),
    // Forget what came before this epoch.
    epoch_ready(epoch_change),
    // Time for the next heartbeat; from itself.
    void(tick),
    // Leave the job.
    void(stop_rank)>;

/// Watches the heartbeats of all ranks. One in a job, on the leader.
using monitor_actor = mpi::protocol<
    // A rank lives.
    void(heartbeat),
    // Time to look at who is silent; from itself.
    void(tick)>;

/// Runs micro-batches through the rank's layers, on a thread of its own.
using executor_actor = mpi::protocol<
    // An id for a link between GPUs.
    link_offer(link_request),
    // Load these layers.
    stage_ready(stage_assignment),
    // The stage's KV store, from the rank's own cache manager.
    void(kv_handle),
    // Compute a step; the last stage answers the scheduler with step_result.
    void(micro_batch),
    // Are the tokens there that the device draws? From itself.
    void(tick),
    // What has been done since the last time?
    executor_stats(executor_stats_request)>;

/// Owns the KV storage of the rank's layers.
using cache_actor = mpi::protocol<
    // What the stage needs; from the rank's own executor.
    void(kv_need),
    // Make the store.
    kv_ready(kv_allotment),
    // Move blocks, then open the rank's gate for the ticket.
    void(move_blocks)>;

/// One of the job's pipelines, of which each serves the whole model. Its epoch is its own: the numbers are
/// unique in the job and rise with every pipeline that is put up.
struct pipeline_layout {
  std::uint32_t epoch = 0;
  bool stands = false;                    ///< else its requests have to wait or to go elsewhere
  bool gone = false;                      ///< it does not come back
  scheduler::limits limits;               ///< stages, KV blocks and room for swapped ones are its own
  std::vector<executor_actor> executors;  ///< in order of the layers
  std::vector<cache_actor> caches;        ///< the same
  std::vector<int> stage_ranks;           ///< the same as rank numbers
};

/// What has become of a pipeline.
struct pipeline_change {
  std::size_t pipeline = 0;
  pipeline_layout now;
  std::string end;  ///< why no pipeline will stand any more; empty while one stands or may
};

/// Owns the requests of all pipelines. One in a job, on the leader.
using scheduler_actor = mpi::protocol<
    // A prompt; answered by answer_tokens and answer_done to the front end of that rank.
    void(submit),
    // Not wanted any more; answered by answer_done.
    void(cancel),
    // The last stage has drawn.
    void(step_result),
    // A pipeline is lost, or another one has taken its place: what was on its way in the old one is lost.
    void(pipeline_change),
    // How is it going?
    scheduler_stats(stats_request)>;

/// Console, batch or gateway, on the leader: whoever submits. Requests come in from the program's own threads
/// and go on to the scheduler under the front end's name.
using front_end_actor = mpi::protocol<
    // Ask the scheduler.
    void(submit),
    // Take a request back.
    void(cancel),
    // The next tokens of answers.
    void(answer_tokens),
    // The end of an answer.
    void(answer_done)>;

/// Told by every rank how far its weights have come.
using observer_actor = mpi::protocol<void(load_progress)>;

}  // namespace fastserve::actors
