#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/sampling.hpp"

// Every message that crosses between actors, grouped by receiver. Plain structs; small, never a tensor. Each
// carries what its receiver needs to know that it belongs to the present epoch.

namespace fastserve::actors {

// -- to a node ----------------------------------------------------------------

/// Asks for what the rank is made of.
struct profile_request {
  std::uint32_t epoch = 0;
};

/// What a rank is made of.
struct node_profile {
  std::int32_t rank = 0;
  std::string host;
  std::string device;
  std::uint64_t memory_bytes = 0;  ///< for weights and KV, this rank's share of its device
  std::int32_t threads = 0;
  std::string link_device;       ///< a device that a link can join to others, host included; empty: none
  std::int32_t first_layer = 0;  ///< of its stage when it was asked; first_layer == last_layer: none
  std::int32_t last_layer = 0;
};

/// Asks for the id of a link to be, see mpi::device_link.
struct link_request {
  std::uint32_t epoch = 0;
};

struct link_offer {
  std::int32_t rank = 0;
  std::string id;
  std::string error;  ///< why there is none; empty otherwise
};

/// The leader is alive. A rank that does not hear this for too long ends itself, or takes the leader's place.
struct leader_beat {
  std::uint32_t epoch = 0;
  std::int32_t leader = 0;  ///< a rank; see actors/succession.hpp
};

/// The leader is silent for `rank`: for others, too?
struct heir_call {
  std::int32_t rank = 0;
};

/// `rank` lives.
struct heir_reply {
  std::int32_t rank = 0;
  bool silent = false;  ///< it does not hear the leader either
};

/// A rank was declared dead: nothing is sent to it or taken from it any more.
struct rank_lost {
  std::int32_t rank = 0;
};

/// All earlier epochs are over: their steps are dropped and their KV is forgotten.
struct epoch_change {
  std::uint32_t epoch = 0;
};

struct epoch_ready {
  std::int32_t rank = 0;
};

/// Some tokens of an answer.
struct answer_part {
  std::vector<std::int32_t> tokens;
  std::vector<model::sampled_token> details;  ///< as many, where log-probabilities are wanted; else none
};

/// The tokens [from, from + part) of one answer, drawn since the last journal_part.
struct journal_entry {
  std::uint64_t request = 0;
  std::int32_t choice = 0;
  std::int32_t from = 0;
  answer_part part;
};

/// From the leader to its standby: what was drawn, and what needs no keeping any more. See
/// actors/journal_feed.hpp.
struct journal_part {
  std::int32_t leader = 0;
  std::uint64_t number = 0;  ///< from 0 with each standby, without gaps
  bool anew = false;         ///< forget all before
  std::vector<journal_entry> entries;
  std::vector<std::uint64_t> closed;  ///< requests
};

/// A standby's answer: it has all parts before `next`.
struct journal_ack {
  std::int32_t rank = 0;
  bool taken = false;  ///< false: it needs everything anew
  std::uint64_t next = 0;
};

/// A rank's place in the pipeline of an epoch. first_layer == last_layer: a spare, which may hold the weights
/// of the layers [held_first, held_last) ready.
struct stage_assignment {
  std::uint32_t epoch = 0;
  std::int32_t first_layer = 0;
  std::int32_t last_layer = 0;
  std::int32_t previous_rank = -1;  ///< -1: this is the first stage
  std::int32_t next_rank = -1;      ///< -1: this is the last stage
  std::int32_t max_rows = 0;        ///< rows of the largest micro-batch
  std::int32_t max_sequences = 0;   ///< sequences of the largest micro-batch
  std::int32_t held_first = 0;
  std::int32_t held_last = 0;
  std::string link_id;                   ///< of the link between devices of this pipeline; empty: none
  std::vector<std::int32_t> link_ranks;  ///< that join it, in order of the layers
};

/// A stage's weights are loaded.
struct stage_ready {
  std::int32_t rank = 0;
  std::uint64_t weight_bytes = 0;
  std::uint64_t step_bytes = 0;      ///< of weights that every step reads, whatever its rows
  std::uint64_t free_bytes = 0;      ///< left for KV
  std::uint64_t kv_block_bytes = 0;  ///< of one block over the stage's layers
  std::int64_t load_ns = 0;
  std::uint64_t read_bytes = 0;    ///< of files
  std::uint64_t cached_bytes = 0;  ///< of these, of the pack cache
  std::string channel;             ///< that carries activations to the next stage; empty: there is none
  bool runs_ahead = false;  ///< it gains from steps that come before the tokens of those before are known
  std::string error;        ///< why it is not; empty otherwise
};

/// Ends the rank's part in the job.
struct stop_rank {
  std::int32_t exit_code = 0;
};

// -- to a cache manager -------------------------------------------------------

/// How many blocks to hold for the stage's layers, and room for how many outside of the store. The same
/// numbers on every stage.
struct kv_allotment {
  std::uint32_t epoch = 0;
  std::int32_t blocks = 0;
  std::int32_t memory_slots = 0;
  std::int32_t disk_slots = 0;
};

struct kv_ready {
  std::int32_t rank = 0;
  std::uint64_t bytes = 0;
  std::int64_t memory_block_ns = 0;  ///< of copying one block to or from its slot, measured
  std::int64_t disk_block_ns = 0;
  std::string error;  ///< why there is none; empty otherwise
};

/// One block over all layers: 0 = from block `other`, 1 = to slot `other`, 2 = from slot `other`
/// (scheduler::move_kind).
struct block_move {
  std::uint8_t kind = 0;
  std::int32_t block = 0;
  std::int32_t other = 0;
};

/// Moves in their order. Steps that need them wait for the ticket; they need not wait for steps, since no
/// step in flight touches the blocks.
struct move_blocks {
  std::uint32_t epoch = 0;
  std::uint64_t ticket = 0;
  std::vector<block_move> moves;
};

// -- to a shard executor ------------------------------------------------------

/// What the last stage needs to draw a token. The texts so far travel only when a penalty reads them.
struct draw_order {
  std::uint64_t request = 0;  ///< whose token it is
  model::sampling_params how;
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> answer;
};

/// One sequence's rows of a micro-batch: how much of the batch's arrays is its own, where the sequences
/// before it leave off.
struct sequence_work {
  std::uint64_t request = 0;
  std::int32_t first_position = 0;
  std::int32_t tokens = 0;
  std::int32_t blocks = 0;
  std::int32_t draws = 0;  ///< of the last row's logits; several where answers share a prompt
};

/// A step of the pipeline: the same message goes to every stage at once.
struct micro_batch {
  std::uint32_t epoch = 0;
  std::uint64_t step = 0;
  std::int64_t cause_ns =
      0;  ///< when the result that this step follows was drawn (last stage's clock); 0 = none
  std::uint64_t ticket = 0;  ///< moves up to this one must be done first; 0 = none
  bool followed = false;     ///< another step may come before the tokens of this one are known
  std::vector<sequence_work> sequences;
  std::vector<std::int32_t> tokens;  ///< scheduler::coming_token where the step before draws it
  std::vector<std::int32_t> blocks;
  std::vector<draw_order> draws;
};

struct executor_stats_request {
  std::uint32_t epoch = 0;
};

/// What an executor has done since the last request for it.
struct executor_stats {
  std::int32_t rank = 0;
  std::uint64_t steps = 0;
  std::uint64_t rows = 0;
  std::int64_t compute_ns = 0;  ///< in kernels and sampling
  std::int64_t draw_ns = 0;     ///< of it, drawing tokens from logits
  std::int64_t receive_ns = 0;  ///< waiting for the previous stage's activations
  std::int64_t move_ns = 0;     ///< waiting for blocks to be moved
  /// From last stage's token to this stage's next start; of steps that ran ahead there is none; 0 = not seen.
  std::int64_t median_turnaround_ns = 0;
};

// -- to the monitor -----------------------------------------------------------

/// A rank is alive, and how far it has come. Not sent by the thread that computes: a busy rank is not a dead
/// one.
struct heartbeat {
  std::int32_t rank = 0;
  std::uint32_t epoch = 0;
  std::uint64_t steps = 0;      ///< computed since the start
  std::uint64_t rows = 0;       ///< in them
  std::int64_t compute_ns = 0;  ///< spent on them
};

// -- to the scheduler ---------------------------------------------------------

/// A prompt from a front end.
struct submit {
  std::uint64_t request = 0;  ///< unique among the front ends of a job
  std::vector<std::int32_t> prompt;
  model::sampling_params sampling;
  model::stop_params stop;
  std::int32_t choices = 1;        ///< answers; each is drawn with model::choice_seed
  std::int32_t priority = 0;       ///< larger goes first
  std::string cache_salt;          ///< cached prefixes are shared under the same salt only
  std::vector<answer_part> known;  ///< [choices] or none: how the answers begin, from an earlier leader
};

/// Takes a request back.
struct cancel {
  std::uint64_t request = 0;
};

struct drawn_token {
  std::uint64_t request = 0;
  model::sampled_token token;
};

/// The last stage's answer to a micro-batch, or any stage's failure.
struct step_result {
  std::uint32_t epoch = 0;
  std::uint64_t step = 0;
  std::int64_t drawn_ns = 0;  ///< the last stage's clock
  std::vector<drawn_token> tokens;
  std::string error;
};

struct stats_request {
  std::uint32_t epoch = 0;
};

struct scheduler_stats {
  std::uint64_t waiting = 0;
  std::uint64_t running = 0;
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t finished = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t prefix_hit_tokens = 0;
  std::int64_t kv_tokens = 0;
  std::int64_t kv_tokens_free = 0;
  std::uint64_t blocks_out = 0;  ///< KV blocks copied out of the store, and back
  std::uint64_t blocks_in = 0;
  std::int64_t swap_tokens = 0;
  std::int64_t swap_tokens_free = 0;
  // What steps were found to cost a stage, see scheduler/cost_model.hpp.
  double step_fixed_ns = 0;
  double step_row_ns = 0;
  double step_draw_ns = 0;
  double step_context_ns = 0;
};

// -- to a front end -----------------------------------------------------------

/// The next token of an answer and the text that it completes (possibly none).
struct answer_token {
  std::uint64_t request = 0;
  std::int32_t choice = 0;
  model::sampled_token token;
  std::string text;
};

/// What a step has brought, of all answers of a front end.
struct answer_tokens {
  std::vector<answer_token> tokens;
};

/// The end of an answer. Times are relative to the request's arrival at the scheduler.
struct answer_done {
  std::uint64_t request = 0;
  std::int32_t choice = 0;    ///< every one of a request has its end
  std::string text;           ///< what was still held back
  std::string finish_reason;  ///< "stop", "length", "cancelled" or "error"
  std::string error;
  std::int32_t prompt_tokens = 0;
  std::int32_t completion_tokens = 0;
  std::int64_t queue_ns = 0;
  std::int64_t first_token_ns = 0;
  std::int64_t total_ns = 0;
};

/// How far a rank has loaded its weights.
struct load_progress {
  std::int32_t rank = 0;
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;
};

}  // namespace fastserve::actors
