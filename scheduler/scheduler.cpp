#include "scheduler/scheduler.hpp"

#include <algorithm>
#include <cassert>
#include <stdexcept>

namespace fastserve::scheduler {

namespace {

// Rows below which cutting a prompt further, to spread it over the stages, costs more than it gains: the
// weights are read once a chunk.
constexpr std::int32_t least_chunk_rows = 64;

std::int32_t divide_up(std::int64_t a, std::int64_t b) { return static_cast<std::int32_t>((a + b - 1) / b); }

}  // namespace

struct scheduler::sequence {
  request what;
  std::vector<std::int32_t> tokens;  // prompt, then answer
  std::int32_t prompt_tokens = 0;
  std::int32_t dispatched = 0;  // rows sent into the pipeline so far; dispatched <= tokens.size()
  std::int32_t in_flight = 0;   // micro-batches that hold rows of this sequence
  bool drawing = false;         // one of them draws the next token: nothing to compute until it is back
  std::optional<finish_reason> ending;  // asked to end while in flight
  std::vector<std::int32_t> blocks;     // cover prompt_tokens + max_tokens
  request_times times;

  std::int32_t backlog() const { return static_cast<std::int32_t>(tokens.size()) - dispatched; }
  bool ready() const { return !drawing && !ending && backlog() > 0; }
  bool decodes() const { return backlog() == 1 && dispatched >= prompt_tokens; }
  std::int32_t answered() const { return static_cast<std::int32_t>(tokens.size()) - prompt_tokens; }
};

struct scheduler::step {
  step_id id{};
  struct part {
    sequence* of;
    bool samples;
  };
  std::vector<part> parts;
};

scheduler::scheduler(const limits& within) : limits_{within}, pool_{within.kv_blocks} {
  assert(within.stages > 0 && within.max_batch > 0 && within.token_budget > 0);
}

scheduler::~scheduler() = default;

std::string scheduler::add(request what, time now) {
  const auto prompt = static_cast<std::int64_t>(what.prompt.size());
  const auto pool_tokens = std::int64_t{limits_.kv_blocks} * block_tokens;
  if (prompt == 0) return "the prompt is empty";
  if (prompt >= limits_.max_context)
    return "the prompt has " + std::to_string(prompt) + " tokens; the context holds " +
           std::to_string(limits_.max_context) + ", the answer included";
  if (prompt >= pool_tokens)
    return "the prompt has " + std::to_string(prompt) + " tokens; the KV cache holds " +
           std::to_string(pool_tokens) + ", the answer included";
  if (waiting_.size() >= limits_.max_waiting)
    return "the queue is full: " + std::to_string(waiting_.size()) + " requests wait";
  if (sequences_.contains(what.id)) return "the request id is in use";

  auto s = std::make_unique<sequence>();
  const auto room = std::min<std::int64_t>(limits_.max_context, pool_tokens) - prompt;
  what.max_tokens = static_cast<std::int32_t>(std::clamp<std::int64_t>(what.max_tokens, 1, room));
  s->tokens = std::move(what.prompt);
  s->prompt_tokens = static_cast<std::int32_t>(prompt);
  s->what = std::move(what);
  s->times.arrived = now;
  waiting_.push_back(s.get());
  sequences_.emplace(s->what.id, std::move(s));
  return {};
}

bool scheduler::admit(sequence& s, time now) {
  if (static_cast<std::int32_t>(running_.size()) >= limits_.max_running) return false;
  if (!pool_.allocate(blocks_for(s.prompt_tokens + s.what.max_tokens), s.blocks)) return false;
  s.times.admitted = now;
  running_.push_back(&s);
  return true;
}

bool scheduler::append_decode(sequence& s, micro_batch& out, step& record) {
  if (!s.ready() || !s.decodes()) return false;
  const auto at = static_cast<std::size_t>(s.dispatched);
  out.entries.push_back({s.what.id, s.dispatched, std::span{s.tokens}.subspan(at, 1), s.blocks, true});
  record.parts.push_back({&s, true});
  out.rows += 1;
  s.dispatched += 1;
  s.in_flight += 1;
  s.drawing = true;
  return true;
}

bool scheduler::append_prefill(sequence& s, std::int32_t row_budget, micro_batch& out, step& record) {
  if (!s.ready() || s.decodes()) return false;
  const auto rows = std::min(s.backlog(), row_budget - out.rows);
  if (rows <= 0) return false;
  const bool samples = rows == s.backlog();
  const auto at = static_cast<std::size_t>(s.dispatched);
  out.entries.push_back({s.what.id, s.dispatched,
                         std::span{s.tokens}.subspan(at, static_cast<std::size_t>(rows)), s.blocks, samples});
  record.parts.push_back({&s, samples});
  out.rows += rows;
  s.dispatched += rows;
  s.in_flight += 1;
  s.drawing = samples;
  totals_.prompt_tokens += static_cast<std::uint64_t>(rows);
  return true;
}

std::optional<micro_batch> scheduler::schedule(time now) {
  if (static_cast<std::int32_t>(in_flight_.size()) >= limits_.stages) return std::nullopt;

  micro_batch out;
  step record;
  const auto most = static_cast<std::size_t>(limits_.max_batch);

  // Decode rows. An even share of them for each stage, so that the pipeline's micro-batches take equally
  // long.
  std::int32_t decoding = 0;
  std::int64_t prefill_backlog = 0;
  for (const auto* s : running_) {
    if (s->ending) continue;
    if (s->dispatched >= s->prompt_tokens)
      ++decoding;
    else
      prefill_backlog += s->backlog();
  }
  const auto share = static_cast<std::size_t>(
      std::min({divide_up(decoding, limits_.stages), limits_.max_batch, limits_.token_budget}));
  for (std::size_t looked = 0; looked < running_.size() && out.entries.size() < share; ++looked) {
    if (next_decode_ >= running_.size()) next_decode_ = 0;
    append_decode(*running_[next_decode_++], out, record);
  }

  // Prefill chunks: running prompts first, then new ones. A lone prompt is cut so that every stage has work.
  for (std::size_t i = 0;
       i < waiting_.size() && prefill_backlog < std::int64_t{limits_.token_budget} * limits_.stages; ++i)
    prefill_backlog += waiting_[i]->backlog();
  const auto chunk = std::max(divide_up(prefill_backlog, limits_.stages), least_chunk_rows);
  const auto budget = std::min(limits_.token_budget, out.rows + chunk);
  for (std::size_t i = 0; i < running_.size() && out.rows < budget && out.entries.size() < most; ++i)
    append_prefill(*running_[i], budget, out, record);
  while (!waiting_.empty() && out.rows < budget && out.entries.size() < most) {
    auto& s = *waiting_.front();
    if (!admit(s, now)) break;
    waiting_.pop_front();
    append_prefill(s, budget, out, record);
  }

  if (out.entries.empty()) return std::nullopt;
  out.step = record.id = step_id{next_step_++};
  in_flight_.push_back(std::move(record));
  ++totals_.steps;
  return out;
}

std::vector<progress> scheduler::complete(step_id id, std::span<const drawn_token> drawn, time now) {
  if (in_flight_.empty() || in_flight_.front().id != id)
    throw std::logic_error("step " + std::to_string(static_cast<std::uint64_t>(id)) +
                           " is not the oldest in flight");
  const auto record = std::move(in_flight_.front());
  in_flight_.pop_front();

  std::vector<progress> out;
  auto next = drawn.begin();
  for (const auto& [s, samples] : record.parts) {
    s->in_flight -= 1;
    std::int32_t token = -1;
    if (samples) {
      if (next == drawn.end() || next->id != s->what.id)
        throw std::logic_error("the tokens of a step do not match its sequences");
      token = next++->token;
      s->drawing = false;
    }
    if (s->ending) {
      if (s->in_flight == 0) out.push_back(retire(*s, *s->ending, now));
      continue;
    }
    if (token < 0) continue;

    s->tokens.push_back(token);
    ++totals_.completion_tokens;
    if (s->answered() == 1) s->times.first_token = now;
    const auto& stops = s->what.stop_ids;
    std::optional<finish_reason> reason;
    if (std::find(stops.begin(), stops.end(), token) != stops.end())
      reason = finish_reason::stop;
    else if (s->answered() >= s->what.max_tokens)
      reason = finish_reason::length;
    if (reason) {
      out.push_back(retire(*s, *reason, now));
      out.back().token = token;
    } else {
      out.push_back({s->what.id, token, std::nullopt, s->times, s->prompt_tokens, s->answered()});
    }
  }
  if (next != drawn.end()) throw std::logic_error("the tokens of a step do not match its sequences");
  return out;
}

std::optional<progress> scheduler::finish(request_id id, finish_reason as, time now) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return std::nullopt;
  auto& s = *it->second;
  if (s.in_flight > 0) {
    s.ending = as;
    return std::nullopt;
  }
  return retire(s, as, now);
}

progress scheduler::retire(sequence& s, finish_reason why, time now) {
  s.times.finished = now;
  progress out{s.what.id, -1, why, s.times, s.prompt_tokens, s.answered()};
  pool_.release_all(s.blocks);
  if (const auto r = std::find(running_.begin(), running_.end(), &s); r != running_.end()) {
    if (static_cast<std::size_t>(r - running_.begin()) < next_decode_) --next_decode_;
    running_.erase(r);
  } else {
    waiting_.erase(std::find(waiting_.begin(), waiting_.end(), &s));
  }
  ++totals_.finished;
  sequences_.erase(s.what.id);
  return out;
}

bool scheduler::idle() const { return sequences_.empty() && in_flight_.empty(); }

counters scheduler::count() const {
  auto c = totals_;
  c.waiting = waiting_.size();
  c.running = running_.size();
  c.in_flight_steps = in_flight_.size();
  c.kv_blocks = pool_.capacity();
  c.kv_blocks_free = pool_.free_blocks();
  return c;
}

std::span<const std::int32_t> scheduler::tokens(request_id id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? std::span<const std::int32_t>{}
                                : std::span<const std::int32_t>{it->second->tokens};
}

void scheduler::check_integrity() const {
  pool_.check_integrity();
  std::vector<std::int32_t> holders(static_cast<std::size_t>(pool_.capacity()), 0);
  std::int32_t held = 0;
  for (const auto& [id, s] : sequences_)
    for (const auto b : s->blocks) {
      if (++holders.at(static_cast<std::size_t>(b)) > 1)
        throw std::logic_error("block " + std::to_string(b) + " belongs to two sequences");
      ++held;
    }
  if (held + pool_.free_blocks() != pool_.capacity())
    throw std::logic_error("KV blocks leaked: " +
                           std::to_string(pool_.capacity() - held - pool_.free_blocks()));
  if (sequences_.size() != waiting_.size() + running_.size())
    throw std::logic_error("a sequence is neither waiting nor running");

  std::unordered_map<const sequence*, std::int32_t> rows;
  for (const auto& f : in_flight_)
    for (const auto& p : f.parts) ++rows[p.of];
  for (const auto& [id, s] : sequences_) {
    const auto it = rows.find(s.get());
    if (s->in_flight != (it == rows.end() ? 0 : it->second))
      throw std::logic_error("a sequence miscounts its micro-batches in flight");
    if (s->backlog() < 0) throw std::logic_error("a sequence has more rows dispatched than tokens");
    if (!s->blocks.empty() && s->blocks.size() * block_tokens < s->tokens.size())
      throw std::logic_error("a sequence outgrew its blocks");
  }
}

}  // namespace fastserve::scheduler
