#include "actors/scheduler.hpp"

#include <chrono>
#include <utility>

namespace fastserve::actors {

namespace {

scheduler::time now() { return std::chrono::steady_clock::now().time_since_epoch(); }

std::int64_t since(scheduler::time from, scheduler::time to) {
  return from.count() == 0 ? 0 : (to - from).count();
}

}  // namespace

scheduler_state::scheduler_state(mpi::base_of<scheduler_actor>* self, scheduler_setup setup)
    : self_{self}, setup_{std::move(setup)}, scheduler_{setup_.limits} {}

scheduler_actor::behavior_type scheduler_state::make_behavior() {
  return {
      [this](const submit& what) { on_submit(what); },
      [this](const cancel& what) { on_cancel(what); },
      [this](const step_result& result) { on_result(result); },
      [this](const pipeline_change& change) { on_change(change); },
      [this](const stats_request&) { return stats(); },
  };
}

void scheduler_state::on_submit(const submit& what) {
  const auto to = caf::actor_cast<front_end_actor>(self_->current_sender());
  scheduler::request request{scheduler::request_id{what.request}, what.prompt, what.stop.max_tokens,
                             what.stop.stop_token_ids};
  if (!what.stop.ignore_eos)
    request.stop_ids.insert(request.stop_ids.end(), setup_.eos_ids.begin(), setup_.eos_ids.end());

  auto refusal = what.sampling.validate();
  if (refusal.empty()) refusal = scheduler_.add(std::move(request), now());
  if (!refusal.empty()) {
    answer_done done;
    done.request = what.request;
    done.finish_reason = scheduler::name_of(scheduler::finish_reason::error);
    done.error = refusal;
    done.prompt_tokens = static_cast<std::int32_t>(what.prompt.size());
    mpi::send(self_, to, std::move(done));
    return;
  }
  live_.emplace(what.request, live_request{to, what.sampling, static_cast<std::int32_t>(what.prompt.size()),
                                           answer_text{setup_.tokenizer.get(), what.prompt, what.stop}});
  fill_pipeline();
}

void scheduler_state::on_cancel(const cancel& what) {
  const auto p =
      scheduler_.finish(scheduler::request_id{what.request}, scheduler::finish_reason::cancelled, now());
  if (p) report(*p, nullptr);
  fill_pipeline();
}

void scheduler_state::on_result(const step_result& result) {
  if (result.epoch != setup_.epoch) return;
  if (!result.error.empty()) {
    fail_all(result.error);
    return;
  }
  last_drawn_ns_ = result.drawn_ns;
  std::vector<scheduler::drawn_token> drawn;
  drawn.reserve(result.tokens.size());
  for (const auto& t : result.tokens) drawn.push_back({scheduler::request_id{t.request}, t.token.token});
  const auto progress = scheduler_.complete(scheduler::step_id{result.step}, drawn, now());

  // Before the next micro-batch is formed: a stop string may end an answer.
  auto next = result.tokens.begin();
  for (const auto& p : progress) {
    const model::sampled_token* token = nullptr;
    if (p.token >= 0) {
      while (next->request != static_cast<std::uint64_t>(p.id)) ++next;
      token = &next->token;
    }
    report(p, token);
  }
  fill_pipeline();
}

void scheduler_state::on_change(const pipeline_change& change) {
  if (change.epoch <= setup_.epoch) return;
  setup_.epoch = change.epoch;
  setup_.pipeline = change.pipeline;
  setup_.caches = change.caches;
  last_drawn_ns_ = 0;
  const auto& l = change.limits;
  for (const auto& p : scheduler_.restart(l.stages, l.kv_blocks, now(), l.swap)) report(p, nullptr);
  fill_pipeline();
}

void scheduler_state::report(const scheduler::progress& p, const model::sampled_token* token) {
  const auto it = live_.find(static_cast<std::uint64_t>(p.id));
  if (it == live_.end()) return;
  auto& r = it->second;
  auto last = p;
  if (token != nullptr && !token->valid) {
    const auto error = scheduler::finish_reason::error;
    if (!p.finished) last = *scheduler_.finish(p.id, error, now());
    last.finished = error;
    report_done(r, last, "the model's logits are not finite numbers; its weights may be damaged");
    live_.erase(it);
    return;
  }
  if (token != nullptr) {
    // A token that ends the answer by its id has no text.
    const bool silent = p.finished == scheduler::finish_reason::stop;
    answer_token out{it->first, *token, silent ? std::string{} : r.text.push(token->token)};
    mpi::send(self_, r.to, std::move(out));
    if (r.text.stopped()) {
      if (!p.finished) last = *scheduler_.finish(p.id, scheduler::finish_reason::stop, now());
      last.finished = scheduler::finish_reason::stop;
    }
  }
  if (last.finished) {
    const bool failed = last.finished == scheduler::finish_reason::error;
    report_done(r, last, failed ? "the KV cache of the ranks that are left is too small for it" : "");
    live_.erase(it);
  }
}

void scheduler_state::report_done(live_request& r, const scheduler::progress& p, const std::string& error) {
  answer_done done;
  done.request = static_cast<std::uint64_t>(p.id);
  done.text = r.text.flush();
  done.finish_reason = scheduler::name_of(*p.finished);
  done.error = error;
  done.prompt_tokens = p.prompt_tokens;
  done.completion_tokens = p.completion_tokens;
  done.queue_ns = since(p.times.arrived, p.times.admitted.count() ? p.times.admitted : p.times.finished);
  done.first_token_ns =
      since(p.times.arrived, p.times.first_token.count() ? p.times.first_token : p.times.finished);
  done.total_ns = since(p.times.arrived, p.times.finished);
  mpi::send(self_, r.to, std::move(done));
}

void scheduler_state::fill_pipeline() {
  while (true) {
    const auto batch = scheduler_.schedule(now());
    if (const auto moves = scheduler_.take_moves()) send_moves(*moves);
    if (!batch) return;
    const auto message = message_of(*batch);
    for (const auto& stage : setup_.pipeline) mpi::send(self_, stage, message);
  }
}

void scheduler_state::send_moves(const scheduler::move_order& order) {
  move_blocks out{setup_.epoch, ticket_of(order.ticket), {}};
  out.moves.reserve(order.moves.size());
  for (const auto& m : order.moves)
    out.moves.push_back({static_cast<std::uint8_t>(m.kind), m.block, m.other});
  for (const auto& cache : setup_.caches) mpi::send(self_, cache, out);
}

micro_batch scheduler_state::message_of(const scheduler::micro_batch& batch) const {
  micro_batch out{
      setup_.epoch, static_cast<std::uint64_t>(batch.step), last_drawn_ns_, ticket_of(batch.ticket), {}};
  out.sequences.reserve(batch.entries.size());
  for (const auto& e : batch.entries) {
    sequence_work w;
    w.request = static_cast<std::uint64_t>(e.id);
    w.first_position = e.first_position;
    w.tokens.assign(e.tokens.begin(), e.tokens.end());
    const auto blocks = scheduler::blocks_for(e.first_position + static_cast<std::int64_t>(e.tokens.size()));
    w.blocks.assign(e.blocks.begin(), e.blocks.begin() + blocks);
    if (e.samples) {
      const auto& r = live_.at(w.request);
      draw_order order{r.sampling, {}, {}};
      if (r.sampling.penalizes()) {
        const auto all = scheduler_.tokens(e.id);
        order.prompt.assign(all.begin(), all.begin() + r.prompt_tokens);
        order.answer.assign(all.begin() + r.prompt_tokens, all.end());
      }
      w.draw.push_back(std::move(order));
    }
    out.sequences.push_back(std::move(w));
  }
  return out;
}

scheduler_stats scheduler_state::stats() const {
  const auto c = scheduler_.count();
  const auto costs = scheduler_.costs().solve();
  return {c.waiting,
          c.running,
          c.steps,
          c.prompt_tokens,
          c.completion_tokens,
          c.finished,
          c.preemptions,
          c.prefix_hit_tokens,
          std::int64_t{c.kv_blocks} * scheduler::block_tokens,
          std::int64_t{c.kv_blocks_free} * scheduler::block_tokens,
          c.blocks_out,
          c.blocks_in,
          std::int64_t{c.swap_slots} * scheduler::block_tokens,
          std::int64_t{c.swap_slots_free} * scheduler::block_tokens,
          costs.fixed_ns,
          costs.row_ns,
          costs.draw_ns,
          costs.context_ns};
}

void scheduler_state::fail_all(const std::string& why) {
  for (auto& [id, r] : live_) {
    answer_done done;
    done.request = id;
    done.text = r.text.flush();
    done.finish_reason = scheduler::name_of(scheduler::finish_reason::error);
    done.error = why;
    done.prompt_tokens = r.prompt_tokens;
    mpi::send(self_, r.to, std::move(done));
  }
  live_.clear();
  setup_.fail(why);
}

}  // namespace fastserve::actors
