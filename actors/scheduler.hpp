#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/answer_text.hpp"
#include "actors/protocol.hpp"
#include "scheduler/replica_set.hpp"

namespace fastserve::actors {

/// What the scheduler actor starts with.
struct scheduler_setup {
  std::vector<pipeline_layout> pipelines;
  std::shared_ptr<const model::tokenizer> tokenizer;  ///< null: answers have no text
  std::vector<std::int32_t> eos_ids;
  std::uint64_t first_ticket = 0;  ///< larger than all of a scheduler before this one in the same epochs
  std::function<void(const std::string& why)> fail;  ///< told once: no request is answered any more
};

/// Shell around scheduler::replica_set: turns messages into its calls and its micro-batches into messages,
/// and tokens into text.
class scheduler_state {
 public:
  static constexpr const char* name = "scheduler";

  scheduler_state(mpi::base_of<scheduler_actor>* self, scheduler_setup setup);
  scheduler_actor::behavior_type make_behavior();

 private:
  // One answer. The scheduler object knows it by a number of its own.
  struct live_request {
    std::uint64_t request = 0;
    std::int32_t choice = 0;
    front_end_actor to;
    model::sampling_params sampling;
    std::int32_t prompt_tokens = 0;
    answer_text text;
  };

  // Where a pipeline's messages go.
  struct lane {
    std::uint32_t epoch = 0;
    std::vector<executor_actor> executors;
    std::vector<cache_actor> caches;
    std::int64_t last_drawn_ns = 0;
  };

  // A request from a front end, while any of its answers is open.
  struct open_request {
    std::uint64_t first = 0;  // of the numbers of its answers
    std::int32_t choices = 0;
    std::int32_t left = 0;
  };

  // What goes to a front end when the message at hand has been dealt with: the pipelines wait for their next
  // step, answers do not.
  struct outgoing {
    front_end_actor to;
    answer_tokens tokens;
    std::vector<answer_done> ends;  // of answers that have no more tokens
  };

  void on_submit(const submit& what);
  std::string take_in(const submit& what, const front_end_actor& to);
  void go_on(const submit& what, std::uint64_t first);
  std::uint64_t salt_of(const std::string& name);
  void on_cancel(const cancel& what);
  void on_result(const step_result& result);
  void on_change(const pipeline_change& change);
  scheduler_stats stats() const;

  void fill_pipelines();
  void fill_pipeline(std::size_t pipeline);
  void send_moves(const lane& to, const scheduler::move_order& order);
  std::uint64_t ticket_of(std::uint64_t ticket) const {
    return ticket == 0 ? 0 : setup_.first_ticket + ticket;
  }
  micro_batch message_of(const lane& to, const scheduler::micro_batch& batch) const;
  void report(const scheduler::progress& p, const model::sampled_token* token);
  void end(std::uint64_t number);
  void report_done(live_request& r, const scheduler::progress& p, const std::string& error);
  void fail_all(const std::string& why);
  outgoing& answers_to(const front_end_actor& to);
  void send_answers();

  mpi::base_of<scheduler_actor>* self_;
  scheduler_setup setup_;
  std::vector<lane> lanes_;
  scheduler::replica_set scheduler_;
  std::unordered_map<std::uint64_t, live_request> live_;
  std::unordered_map<std::uint64_t, open_request> open_;
  std::uint64_t next_number_ = 1;
  std::unordered_map<std::string, std::uint64_t> salts_;
  std::uint64_t next_salt_ = 1;
  std::vector<outgoing> outgoing_;
  std::string failed_;  // why no request is answered any more
};

}  // namespace fastserve::actors
