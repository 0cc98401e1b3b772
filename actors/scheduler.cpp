#include "actors/scheduler.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "actors/clock.hpp"

namespace fastserve::actors {

namespace {

// Names of tenants that are told apart at once. Those forgotten only lose their cached prefixes.
constexpr std::size_t most_salts = 100'000;

std::int64_t since(scheduler::time from, scheduler::time to) {
  return from.count() == 0 ? 0 : (to - from).count();
}

// One that does not stand has no memory.
std::vector<scheduler::limits> limits_of(const std::vector<pipeline_layout>& pipelines) {
  std::vector<scheduler::limits> out;
  for (const auto& p : pipelines) {
    out.push_back(p.limits);
    if (!p.stands) out.back().kv_blocks = 0;
  }
  return out;
}

}  // namespace

scheduler_state::scheduler_state(mpi::base_of<scheduler_actor>* self, scheduler_setup setup)
    : self_{self}, setup_{std::move(setup)}, scheduler_{limits_of(setup_.pipelines)} {
  for (auto& p : setup_.pipelines)
    lanes_.push_back({p.epoch, std::move(p.executors), std::move(p.caches), 0});
}

scheduler_actor::behavior_type scheduler_state::make_behavior() {
  return {
      [this](const submit& what) {
        on_submit(what);
        send_answers();
      },
      [this](const cancel& what) {
        on_cancel(what);
        send_answers();
      },
      [this](const step_result& result) {
        on_result(result);
        send_answers();
      },
      [this](const pipeline_change& change) {
        on_change(change);
        send_answers();
      },
      [this](const stats_request&) { return stats(); },
  };
}

void scheduler_state::on_submit(const submit& what) {
  const auto to = caf::actor_cast<front_end_actor>(self_->current_sender());
  if (const auto refusal = take_in(what, to); !refusal.empty()) {
    for (std::int32_t i = 0; i < std::clamp(what.choices, 1, model::most_choices); ++i) {
      answer_done done;
      done.request = what.request;
      done.choice = i;
      done.finish_reason = scheduler::name_of(scheduler::finish_reason::error);
      done.error = refusal;
      done.prompt_tokens = static_cast<std::int32_t>(what.prompt.size());
      answers_to(to).ends.push_back(std::move(done));
    }
    return;
  }
  fill_pipelines();
}

// Why the request cannot be taken, or nothing.
std::string scheduler_state::take_in(const submit& what, const front_end_actor& to) {
  if (!failed_.empty()) return failed_;
  if (auto wrong = what.sampling.validate(); !wrong.empty()) return wrong;
  if (what.choices < 1 || what.choices > model::most_choices)
    return "n is " + std::to_string(what.choices) + ", expected 1 to " + std::to_string(model::most_choices);
  if (open_.contains(what.request)) return "the request id is in use";

  scheduler::request request{scheduler::request_id{next_number_},
                             what.prompt,
                             what.stop.max_tokens,
                             what.stop.stop_token_ids,
                             what.priority,
                             salt_of(what.cache_salt),
                             {},
                             // Others are drawn by the host, and penalties want the text.
                             !what.sampling.penalizes() && what.sampling.logprobs == 0};
  if (!what.stop.ignore_eos)
    request.stop_ids.insert(request.stop_ids.end(), setup_.eos_ids.begin(), setup_.eos_ids.end());
  const bool begun = !what.known.empty();  // then each answer is beyond the prompt that it shares
  const auto number = [&](std::int32_t i) {
    return scheduler::request_id{next_number_ + static_cast<std::uint64_t>(i)};
  };
  for (std::int32_t i = 1; i < what.choices && !begun; ++i) request.choices.push_back(number(i));
  for (std::int32_t i = 0; i < (begun ? what.choices : 1); ++i) {
    request.id = number(i);
    const auto refusal = scheduler_.add(request, now());
    if (refusal.empty()) continue;
    while (--i >= 0) scheduler_.finish(number(i), scheduler::finish_reason::cancelled, now());
    return refusal;
  }

  const auto first = next_number_;
  open_.emplace(what.request, open_request{first, what.choices, what.choices});
  for (std::int32_t i = 0; i < what.choices; ++i) {
    live_request r{what.request,
                   i,
                   to,
                   what.sampling,
                   static_cast<std::int32_t>(what.prompt.size()),
                   answer_text{setup_.tokenizer.get(), what.prompt, what.stop}};
    r.sampling.seed = model::choice_seed(what.sampling.seed, i);
    live_.emplace(next_number_++, std::move(r));
  }
  if (begun) go_on(what, first);
  return {};
}

// Answers that an earlier leader began: their tokens so far are reported as if they had just been drawn, and
// what is missing of the KV cache is computed as after a preemption.
void scheduler_state::go_on(const submit& what, std::uint64_t first) {
  const auto choices = std::min(what.known.size(), static_cast<std::size_t>(what.choices));
  for (std::size_t i = 0; i < choices; ++i) {
    const auto& known = what.known[i];
    for (std::size_t t = 0; t < known.tokens.size() && live_.contains(first + i); ++t) {
      model::sampled_token token;
      token.token = known.tokens[t];
      if (t < known.details.size()) token = known.details[t];
      report(scheduler_.give(scheduler::request_id{first + i}, token.token, now()), &token);
    }
  }
}

// A number for each salt, never given twice: a hash could be made to collide.
std::uint64_t scheduler_state::salt_of(const std::string& name) {
  if (name.empty()) return 0;
  if (salts_.size() == most_salts) salts_.clear();  // their prefixes are computed again
  const auto [it, added] = salts_.try_emplace(name, next_salt_);
  if (added) ++next_salt_;
  return it->second;
}

void scheduler_state::on_cancel(const cancel& what) {
  const auto it = open_.find(what.request);
  if (it == open_.end()) return;
  const auto [first, choices, left] = it->second;
  for (std::int32_t i = 0; i < choices; ++i) {
    const scheduler::request_id id{first + static_cast<std::uint64_t>(i)};
    if (const auto p = scheduler_.finish(id, scheduler::finish_reason::cancelled, now())) report(*p, nullptr);
  }
  fill_pipelines();
}

void scheduler_state::on_result(const step_result& result) {
  const auto of =
      std::find_if(lanes_.begin(), lanes_.end(), [&](const lane& l) { return l.epoch == result.epoch; });
  const auto pipeline = static_cast<std::size_t>(of - lanes_.begin());
  if (of == lanes_.end() || !scheduler_.stands(pipeline) || !failed_.empty()) return;  // lost meanwhile
  if (!result.error.empty()) {
    fail_all(result.error);
    return;
  }
  of->last_drawn_ns = result.drawn_ns;
  std::vector<scheduler::drawn_token> drawn;
  drawn.reserve(result.tokens.size());
  for (const auto& t : result.tokens) drawn.push_back({scheduler::request_id{t.request}, t.token.token});
  const auto progress = scheduler_.complete(pipeline, scheduler::step_id{result.step}, drawn, now());

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
  fill_pipeline(pipeline);
  of->last_drawn_ns = 0;  // what comes later follows something else
}

void scheduler_state::on_change(const pipeline_change& change) {
  if (!change.end.empty()) fail_all(change.end);
  if (!failed_.empty()) return;
  const auto which = change.pipeline;
  const auto& p = change.now;
  lanes_.at(which) = {p.epoch, p.executors, p.caches, 0};
  const auto& l = p.limits;
  // What runs goes on even when its pipeline stands again before it was told to be lost.
  auto ended = scheduler_.lose(which, now());
  if (p.stands) {
    for (auto& e : scheduler_.restore(which, l.stages, l.kv_blocks, now(), l.swap, l.ahead))
      ended.push_back(e);
  } else if (p.gone) {
    for (auto& e : scheduler_.give_up(which, now())) ended.push_back(e);
  }
  for (const auto& e : ended) report(e, nullptr);
  fill_pipelines();
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
    end(it->first);
    return;
  }
  if (token != nullptr) {
    // A token that ends the answer by its id has no text.
    const bool silent = p.finished == scheduler::finish_reason::stop;
    answers_to(r.to).tokens.tokens.push_back(
        {r.request, r.choice, *token, silent ? std::string{} : r.text.push(token->token)});
    if (r.text.stopped()) {
      if (!p.finished) last = *scheduler_.finish(p.id, scheduler::finish_reason::stop, now());
      last.finished = scheduler::finish_reason::stop;
    }
  }
  if (last.finished) {
    const bool failed = last.finished == scheduler::finish_reason::error;
    report_done(r, last, failed ? "the KV cache of the ranks that are left is too small for it" : "");
    end(it->first);
  }
}

void scheduler_state::end(std::uint64_t number) {
  const auto it = live_.find(number);
  const auto open = open_.find(it->second.request);
  if (--open->second.left == 0) open_.erase(open);
  live_.erase(it);
}

void scheduler_state::report_done(live_request& r, const scheduler::progress& p, const std::string& error) {
  answer_done done;
  done.request = r.request;
  done.choice = r.choice;
  done.text = r.text.flush();
  done.finish_reason = scheduler::name_of(*p.finished);
  done.error = error;
  done.prompt_tokens = p.prompt_tokens;
  done.completion_tokens = p.completion_tokens;
  done.queue_ns = since(p.times.arrived, p.times.admitted.count() ? p.times.admitted : p.times.finished);
  done.first_token_ns =
      since(p.times.arrived, p.times.first_token.count() ? p.times.first_token : p.times.finished);
  done.total_ns = since(p.times.arrived, p.times.finished);
  answers_to(r.to).ends.push_back(std::move(done));
}

scheduler_state::outgoing& scheduler_state::answers_to(const front_end_actor& to) {
  for (auto& o : outgoing_)
    if (o.to == to) return o;
  return outgoing_.emplace_back(outgoing{to, {}, {}});
}

void scheduler_state::send_answers() {
  for (auto& o : outgoing_) {
    if (!o.tokens.tokens.empty()) mpi::send(self_, o.to, std::move(o.tokens));
    for (auto& end : o.ends) mpi::send(self_, o.to, std::move(end));
  }
  outgoing_.clear();
}

void scheduler_state::fill_pipelines() {
  for (std::size_t i = 0; i < lanes_.size(); ++i) fill_pipeline(i);
}

void scheduler_state::fill_pipeline(std::size_t pipeline) {
  const auto& to = lanes_[pipeline];
  while (failed_.empty() && scheduler_.stands(pipeline)) {
    const auto batch = scheduler_.schedule(pipeline, now());
    if (const auto moves = scheduler_.take_moves(pipeline)) send_moves(to, *moves);
    if (!batch) return;
    auto message = message_of(to, *batch);
    for (std::size_t i = 0; i + 1 < to.executors.size(); ++i) mpi::send(self_, to.executors[i], message);
    mpi::send(self_, to.executors.back(), std::move(message));
  }
}

void scheduler_state::send_moves(const lane& to, const scheduler::move_order& order) {
  move_blocks out{to.epoch, ticket_of(order.ticket), {}};
  out.moves.reserve(order.moves.size());
  for (const auto& m : order.moves)
    out.moves.push_back({static_cast<std::uint8_t>(m.kind), m.block, m.other});
  for (const auto& cache : to.caches) mpi::send(self_, cache, out);
}

micro_batch scheduler_state::message_of(const lane& to, const scheduler::micro_batch& batch) const {
  micro_batch out;
  out.epoch = to.epoch;
  out.step = static_cast<std::uint64_t>(batch.step);
  out.cause_ns = to.last_drawn_ns;
  out.ticket = ticket_of(batch.ticket);
  out.followed = batch.followed;
  out.sequences.reserve(batch.entries.size());
  out.tokens.reserve(static_cast<std::size_t>(batch.rows));
  const auto blocks_of = [](const scheduler::batch_entry& e) {
    return scheduler::blocks_for(e.first_position + static_cast<std::int64_t>(e.tokens.size()));
  };
  std::size_t blocks = 0;
  std::size_t draws = 0;
  for (const auto& e : batch.entries) {
    blocks += static_cast<std::size_t>(blocks_of(e));
    draws += e.choices.size() + (e.samples ? 1 : 0);
  }
  out.blocks.reserve(blocks);
  out.draws.reserve(draws);
  for (const auto& e : batch.entries) {
    const auto draw_for = [&](scheduler::request_id id) {
      const auto& r = live_.at(static_cast<std::uint64_t>(id));
      draw_order order{static_cast<std::uint64_t>(id), r.sampling, {}, {}};
      if (r.sampling.penalizes()) {
        const auto all = scheduler_.tokens(e.id);  // the choices have begun with the same
        order.prompt.assign(all.begin(), all.begin() + r.prompt_tokens);
        order.answer.assign(all.begin() + r.prompt_tokens, all.end());
      }
      out.draws.push_back(std::move(order));
    };
    if (e.samples) draw_for(e.id);
    for (const auto id : e.choices) draw_for(id);
    out.tokens.insert(out.tokens.end(), e.tokens.begin(), e.tokens.end());
    out.blocks.insert(out.blocks.end(), e.blocks.begin(), e.blocks.begin() + blocks_of(e));
    out.sequences.push_back({static_cast<std::uint64_t>(e.id), e.first_position,
                             static_cast<std::int32_t>(e.tokens.size()),
                             static_cast<std::int32_t>(blocks_of(e)),
                             static_cast<std::int32_t>(e.choices.size()) + (e.samples ? 1 : 0)});
  }
  return out;
}

scheduler_stats scheduler_state::stats() const {
  const auto c = scheduler_.count();
  // What is alike is told of the first that stands.
  std::size_t first = 0;
  while (first + 1 < scheduler_.size() && !scheduler_.stands(first)) ++first;
  const auto costs = scheduler_.of(first).costs().solve();
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

// What is under way stays so in `scheduler_`, which is not asked any more.
void scheduler_state::fail_all(const std::string& why) {
  if (!failed_.empty()) return;
  failed_ = why;
  for (auto& [id, r] : live_) {
    answer_done done;
    done.request = r.request;
    done.choice = r.choice;
    done.text = r.text.flush();
    done.finish_reason = scheduler::name_of(scheduler::finish_reason::error);
    done.error = why;
    done.prompt_tokens = r.prompt_tokens;
    answers_to(r.to).ends.push_back(std::move(done));
  }
  live_.clear();
  open_.clear();
  setup_.fail(why);
}

}  // namespace fastserve::actors
