#pragma once

#include "actors/messages.hpp"
#include "mpi/caf_compat.hpp"

// What of a message travels. Apart from the messages, which whoever talks to the engine knows without the
// actors.

namespace fastserve::model {

template <class Inspector>
auto inspect(Inspector& f, sampling_params& x) {
  return mpi::fields(f, x, x.temperature, x.top_k, x.top_p, x.min_p, x.repetition_penalty, x.presence_penalty,
                     x.frequency_penalty, x.seed, x.logprobs);
}

template <class Inspector>
auto inspect(Inspector& f, stop_params& x) {
  return mpi::fields(f, x, x.max_tokens, x.ignore_eos, x.stop, x.stop_token_ids);
}

template <class Inspector>
auto inspect(Inspector& f, token_logprob& x) {
  return mpi::fields(f, x, x.token, x.logprob);
}

template <class Inspector>
auto inspect(Inspector& f, sampled_token& x) {
  return mpi::fields(f, x, x.token, x.logprob, x.top, x.valid);
}

}  // namespace fastserve::model

namespace fastserve::actors {

#define FASTSERVE_INSPECT(type, ...)       \
  template <class Inspector>               \
  auto inspect(Inspector& f, type& x) {    \
    return mpi::fields(f, x, __VA_ARGS__); \
  }

FASTSERVE_INSPECT(profile_request, x.epoch)
FASTSERVE_INSPECT(node_profile, x.rank, x.host, x.device, x.memory_bytes, x.threads, x.link_device,
                  x.first_layer, x.last_layer)
FASTSERVE_INSPECT(link_request, x.epoch)
FASTSERVE_INSPECT(link_offer, x.rank, x.id, x.error)
FASTSERVE_INSPECT(leader_beat, x.epoch, x.leader)
FASTSERVE_INSPECT(heir_call, x.rank)
FASTSERVE_INSPECT(heir_reply, x.rank, x.silent)
FASTSERVE_INSPECT(rank_lost, x.rank)
FASTSERVE_INSPECT(epoch_change, x.epoch)
FASTSERVE_INSPECT(epoch_ready, x.rank)
FASTSERVE_INSPECT(answer_part, x.tokens, x.details)
FASTSERVE_INSPECT(journal_entry, x.request, x.choice, x.from, x.part)
FASTSERVE_INSPECT(journal_part, x.leader, x.number, x.anew, x.entries, x.closed)
FASTSERVE_INSPECT(journal_ack, x.rank, x.taken, x.next)
FASTSERVE_INSPECT(heartbeat, x.rank, x.epoch, x.steps, x.rows, x.compute_ns)
FASTSERVE_INSPECT(stage_assignment, x.epoch, x.first_layer, x.last_layer, x.previous_rank, x.next_rank,
                  x.max_rows, x.max_sequences, x.held_first, x.held_last, x.link_id, x.link_ranks)
FASTSERVE_INSPECT(stage_ready, x.rank, x.weight_bytes, x.step_bytes, x.free_bytes, x.kv_block_bytes,
                  x.load_ns, x.read_bytes, x.cached_bytes, x.channel, x.runs_ahead, x.error)
FASTSERVE_INSPECT(stop_rank, x.exit_code)
FASTSERVE_INSPECT(kv_allotment, x.epoch, x.blocks, x.memory_slots, x.disk_slots)
FASTSERVE_INSPECT(kv_ready, x.rank, x.bytes, x.memory_block_ns, x.disk_block_ns, x.error)
FASTSERVE_INSPECT(block_move, x.kind, x.block, x.other)
FASTSERVE_INSPECT(move_blocks, x.epoch, x.ticket, x.moves)
FASTSERVE_INSPECT(draw_order, x.request, x.how, x.prompt, x.answer)
FASTSERVE_INSPECT(sequence_work, x.request, x.first_position, x.tokens, x.blocks, x.draws)
FASTSERVE_INSPECT(micro_batch, x.epoch, x.step, x.cause_ns, x.ticket, x.followed, x.sequences, x.tokens,
                  x.blocks, x.draws)
FASTSERVE_INSPECT(executor_stats_request, x.epoch)
FASTSERVE_INSPECT(executor_stats, x.rank, x.steps, x.rows, x.compute_ns, x.draw_ns, x.receive_ns, x.move_ns,
                  x.median_turnaround_ns)
FASTSERVE_INSPECT(submit, x.request, x.prompt, x.sampling, x.stop, x.choices, x.priority, x.cache_salt,
                  x.known)
FASTSERVE_INSPECT(cancel, x.request)
FASTSERVE_INSPECT(drawn_token, x.request, x.token)
FASTSERVE_INSPECT(step_result, x.epoch, x.step, x.drawn_ns, x.tokens, x.error)
FASTSERVE_INSPECT(stats_request, x.epoch)
FASTSERVE_INSPECT(scheduler_stats, x.waiting, x.running, x.steps, x.prompt_tokens, x.completion_tokens,
                  x.finished, x.preemptions, x.prefix_hit_tokens, x.kv_tokens, x.kv_tokens_free, x.blocks_out,
                  x.blocks_in, x.swap_tokens, x.swap_tokens_free, x.step_fixed_ns, x.step_row_ns,
                  x.step_draw_ns, x.step_context_ns)
FASTSERVE_INSPECT(answer_token, x.request, x.choice, x.token, x.text)
FASTSERVE_INSPECT(answer_tokens, x.tokens)
FASTSERVE_INSPECT(answer_done, x.request, x.choice, x.text, x.finish_reason, x.error, x.prompt_tokens,
                  x.completion_tokens, x.queue_ns, x.first_token_ns, x.total_ns)
FASTSERVE_INSPECT(load_progress, x.rank, x.done_bytes, x.total_bytes)

#undef FASTSERVE_INSPECT

}  // namespace fastserve::actors
