#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/block_pool.hpp"
#include "scheduler/cost_model.hpp"
#include "scheduler/policy.hpp"
#include "scheduler/prefix_cache.hpp"
#include "scheduler/request.hpp"
#include "scheduler/swap_choice.hpp"
#include "scheduler/swap_pool.hpp"

namespace fastserve::scheduler {

/// Sizes that bound what the scheduler does.
struct limits {
  std::int32_t stages = 1;          ///< pipeline depth = micro-batches in flight
  std::int32_t max_batch = 64;      ///< sequences in one micro-batch
  std::int32_t token_budget = 512;  ///< rows in one micro-batch; longer prompts are prefilled in chunks
  std::int32_t kv_blocks = 0;       ///< the pool, the same on every stage
  std::int32_t max_context = 0;     ///< prompt plus answer, in tokens
  std::size_t max_waiting = 1'000'000;
  bool prefix_caching = true;  ///< keep full blocks for requests that begin alike
  policy_options policy;
  swap_limits swap;  ///< where the KV of preempted requests may go
  /// Whether a step may be formed while the one before still draws the tokens that it computes. Only where
  /// there is one stage: several hide what lies between two steps by themselves.
  bool ahead = false;
};

/// In the place of a token that the step before draws for the same request.
inline constexpr std::int32_t coming_token = -1;

/// One sequence's share of a micro-batch: rows first_position .. first_position + tokens of the sequence.
struct batch_entry {
  request_id id{};
  std::int32_t first_position = 0;
  std::span<const std::int32_t> tokens;  ///< valid until the next call on the scheduler; or coming_token
  std::span<const std::int32_t> blocks;  ///< enough for the last row; same life
  bool samples = false;                  ///< the last row's logits give the next token
  std::vector<request_id> choices;       ///< and the first tokens of these requests
};

struct micro_batch {
  step_id step{};
  std::int32_t rows = 0;
  std::uint64_t ticket =
      0;                  ///< moves up to this one must be done before the step touches its blocks; 0 = none
  bool followed = false;  ///< another one may come before the tokens of this one are there
  std::vector<batch_entry> entries;
};

/// A token drawn for a request.
struct drawn_token {
  request_id id{};
  std::int32_t token = 0;
};

/// What became of a request by a completed step.
struct progress {
  request_id id{};
  std::int32_t token = -1;  ///< the new token, -1 if none (cancelled while in flight)
  std::optional<finish_reason> finished;
  request_times times;  ///< meaningful with `finished`
  std::int32_t prompt_tokens = 0;
  std::int32_t completion_tokens = 0;
};

/// Work that is still to be done for all requests of a scheduler.
struct work_load {
  std::int64_t prefill_tokens = 0;  ///< to be computed before their next tokens
  std::int64_t answer_tokens = 0;   ///< to be drawn, at most
};

/// An unfinished request on its way from one scheduler to another: what a pipeline needs to go on with it.
struct moved_request {
  request what;  ///< as it was added; `choices` are those that still wait for its first token
  std::vector<std::int32_t> answer;  ///< the tokens that it has
  request_times times;
};

/// What evacuate() gives back.
struct evacuation {
  std::vector<moved_request> open;  ///< in order of arrival
  std::vector<progress> ended;      ///< were asked to end while in flight
};

struct counters {
  std::size_t waiting = 0;
  std::size_t running = 0;
  std::size_t in_flight_steps = 0;
  std::int32_t kv_blocks = 0;
  std::int32_t kv_blocks_free = 0;
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens = 0;      ///< prefilled
  std::uint64_t completion_tokens = 0;  ///< drawn
  std::uint64_t finished = 0;
  std::uint64_t preemptions = 0;        ///< times that a running request gave up its KV memory
  std::uint64_t prefix_hit_tokens = 0;  ///< not computed because they were cached
  std::uint64_t blocks_out = 0;         ///< copied out of the KV store
  std::uint64_t blocks_in = 0;          ///< copied back
  std::uint64_t blocks_copied = 0;      ///< within it, before a choice writes to what others hold
  std::int32_t swap_slots = 0;
  std::int32_t swap_slots_free = 0;
};

/// Iteration-level scheduling (Orca, OSDI '22, section 3) of many requests over a pipeline: every call of
/// schedule() forms one micro-batch in the order of the policy, decode rows first, then prefill chunks under
/// the token budget (Sarathi-Serve, arXiv 2403.02310). Up to `limits.stages` micro-batches are in flight; a
/// sequence decodes in one of them at a time, while the prefill chunks of one prompt may follow each other
/// through the stages.
///
/// With `limits.ahead` a second micro-batch is formed while the first is in flight. A sequence whose token is
/// being drawn may be in it, with a row for that token, unless the answer ends with it for sure. If it turns
/// out to end the answer after all, the row was for nothing: the request ends at once, and its step keeps the
/// blocks until it is back. No step runs ahead of one that draws a token which has to be known first
/// (request::runs_ahead, choices), lest a sequence that must wait be served every second step; nor while a
/// sequence waits for memory that only an empty pipeline can give it.
///
/// KV blocks are taken as the sequence grows. When they run out, cached prefixes go first; then requests that
/// the policy puts behind the one in need give up theirs. What such a request had is copied out, if there is
/// room and that is cheaper than to compute it again (swap_choice.hpp), else dropped; what of it is still
/// cached when its turn comes is neither copied back nor computed. A request that could never fit is refused
/// by add(), so there is always one that can go on.
///
/// The further choices of a request wait for its prompt. Their first tokens are drawn from the same logits,
/// then each goes its own way on the prompt's blocks; a block that is not full is copied by whoever writes to
/// it first while others hold it.
///
/// Copies have their own order, beside the steps: move_order's ticket names them and micro_batch::ticket
/// those that a step waits for. Only blocks that no step in flight touches are moved, so moves need not wait
/// for steps.
///
/// A plain object: not thread-safe, no clock.
class scheduler {
 public:
  /// `index`, unless null, is told of the prefix cache's first blocks, under `number`; it outlives this.
  explicit scheduler(const limits& within, first_blocks* index = nullptr, std::uint32_t number = 0);
  ~scheduler();

  /// Queues a request, with its further choices. Returns an empty text, or why it can never run (prompt empty
  /// or longer than the context or the KV pool, queue full). max_tokens is cut to what context and pool
  /// leave.
  std::string add(request what, time now);

  /// The next micro-batch, or nothing when the pipeline is full or no sequence is ready.
  std::optional<micro_batch> schedule(time now);

  /// The moves that the last schedule() asks for, whether or not it gave a micro-batch. To be taken after
  /// each.
  std::optional<move_order> take_moves();

  /// Takes the tokens of a finished step, oldest step first. One progress per entry of `drawn` that is still
  /// wanted and one per request cancelled meanwhile.
  std::vector<progress> complete(step_id step, std::span<const drawn_token> drawn, time now);

  /// A token that was drawn for a waiting request before this scheduler began, as if it had been drawn now:
  /// the answer goes on behind it. Only for a request of one choice that no micro-batch has held yet
  /// (logic_error).
  progress give(request_id id, std::int32_t token, time now);

  /// Ends a request at once if none of its rows is in flight or steps run ahead and no choices wait for it
  /// (the result), else when they are back. Nothing for an unknown id. `as` is what it will be reported as: a
  /// stop string found by the caller is a `stop`.
  std::optional<progress> finish(request_id id, finish_reason as, time now);

  /// The pipeline is gone, with its KV blocks and all steps in flight; another one of `stages` and
  /// `kv_blocks` takes its place. What is not finished is queued again with the tokens that it has, and
  /// computed again from the first; `swap` is the room beside the new pool. The result: requests that were
  /// asked to end while in flight, and those for which the new pool is too small (length if they have tokens,
  /// else error). Answers are cut to what the new pool leaves.
  std::vector<progress> restart(std::int32_t stages, std::int32_t kv_blocks, time now,
                                const swap_limits& swap = {}, bool ahead = false);

  /// The pipeline is gone, and this scheduler gives all its requests away; it is empty then, ready for a
  /// restart() or to adopt() others.
  evacuation evacuate(time now);
  /// Gives away the requests that have not begun.
  std::vector<moved_request> withdraw();
  /// Takes a request that another scheduler gave away: it is queued with the tokens that it has, which are
  /// computed again but for what is cached. max_tokens is cut to what context and pool leave. The result:
  /// nothing, or the ends of it and its choices, where the pool is too small (length if it has tokens, else
  /// error).
  std::vector<progress> adopt(moved_request what, time now);

  bool idle() const;
  counters count() const;
  work_load load() const;
  /// How many of these tokens would be found in the prefix cache.
  std::int32_t cached(std::uint64_t salt, std::span<const std::int32_t> tokens) const;
  const limits& bounds() const { return limits_; }
  /// What steps of this pipeline cost a stage (simulation.hpp takes it).
  const cost_model& costs() const { return costs_; }

  bool knows(request_id id) const { return sequences_.contains(id); }
  /// Tokens of a request so far: prompt, then answer. Empty for an unknown id.
  std::span<const std::int32_t> tokens(request_id id) const;

  /// Throws std::logic_error when blocks or queues do not add up.
  void check_integrity() const;

 private:
  struct sequence;
  struct step;
  struct round;

  sequence& enqueue(request what, std::span<const std::int32_t> answer, const request_times& times);
  void choose(round& r, time now);
  bool place(sequence& s, std::int32_t rows, round& r, time now);
  bool make_room(sequence& s, std::int32_t blocks, time now);
  bool may_start(const sequence& s) const;
  bool runs_ahead() const { return limits_.ahead && limits_.stages == 1; }
  bool ready(const sequence& s) const;
  bool has_room() const;
  void answer(sequence& s, std::int32_t token, time now, std::vector<progress>& out);
  void recall(sequence& s);
  void take(sequence& s, std::int32_t tokens);
  void preempt(sequence& s);
  void release_blocks(sequence& s);
  void detach(sequence& s);
  void enter(sequence& s, time now);
  void leave(sequence& s);
  void describe(sequence& s);
  void settle(sequence& s);
  void count_decoding(sequence& s);
  void reach(sequence& s, std::int32_t rows);
  void observe(const step& done, time now);
  progress retire(sequence& s, finish_reason why, time now);

  // scheduler_restart.cpp
  std::int32_t room_for(std::int64_t prompt_tokens) const;
  void forget_pipeline();
  std::vector<progress> forget_work(time now);
  moved_request give_away(sequence& s);
  void recount();

  // scheduler_choices.cpp
  void add_choices(sequence& s);
  void share(sequence& choice, sequence& of);
  void hand_over(sequence& s, time now);
  bool shares_tail(const sequence& s) const;
  void own_tail(sequence& s);
  void check_choices() const;

  // scheduler_swap.cpp
  std::int32_t free_blocks() const { return pool_.free_blocks() + cache_.evictable_blocks(); }
  std::uint64_t ticket_of(std::int32_t block) const {
    const auto at = static_cast<std::size_t>(block);
    return at < tickets_.size() ? tickets_[at] : 0;
  }
  void touch(std::int32_t block);
  std::int32_t reserve() const;
  bool worth_saving(const sequence& s) const;
  void move(const block_move& what);
  void save(sequence& s);
  void bring_back(sequence& s);
  void forget_saved(sequence& s);
  void bring_back_next(time now);
  void keep_reserve(time now);
  void check_swap() const;

  limits limits_;
  cost_model costs_;
  block_pool pool_;
  prefix_cache cache_;
  swap_pool swap_;
  std::vector<std::uint64_t> tickets_;  // [block], of the last move that touched it; as far as any was moved
  std::vector<block_move> moves_;       // of the next ticket
  std::uint64_t next_ticket_ = 1;
  std::size_t saved_ = 0;  // sequences with something in the swap pool
  std::unique_ptr<policy> policy_;
  std::unordered_map<request_id, std::unique_ptr<sequence>> sequences_;
  std::vector<sequence*> resident_;  // those that hold blocks
  std::int32_t decoding_ = 0;        // resident_ whose prompt is in
  std::int64_t text_tokens_ = 0;     // of all sequences
  std::int64_t there_tokens_ = 0;    // of those, dispatched
  std::int64_t due_tokens_ = 0;      // that their answers still lack, at most
  std::deque<step> in_flight_;
  std::uint64_t next_step_ = 1;
  time last_completed_{};
  bool busy_ = false;     // when the last step was complete there was more to do
  bool pressed_ = false;  // a sequence has found no memory because others were in flight
  counters totals_;
};

}  // namespace fastserve::scheduler
