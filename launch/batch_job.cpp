#include "launch/batch_job.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <stdexcept>
#include <utility>

#include "actors/bring_up.hpp"
#include "actors/journal_sender.hpp"
#include "launch/batch_setup.hpp"
#include "launch/batch_signals.hpp"
#include "launch/formatted.hpp"
#include "launch/parse_value.hpp"
#include "launch/prompt_request.hpp"
#include "launch/status_line.hpp"
#include "launch/survival.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

// Enough to keep every stage busy with some to spare, few enough to keep in memory.
constexpr std::int64_t least_open = 64;
constexpr std::int64_t largest_open = 8192;
constexpr std::size_t most_open_prompt_tokens = std::size_t{8} << 20;
constexpr std::size_t most_finished_bytes = std::size_t{64} << 20;

std::size_t open_limit(const engine& e) {
  const auto layout = e.layout();
  return static_cast<std::size_t>(
      std::clamp(std::int64_t{2} * layout.limits.max_batch * layout.stages(), least_open, largest_open));
}

bool wants_details(const batch_answer& a) { return a.logprobs || a.token_ids; }

// Whether answers can go on behind these tokens.
bool fits(const std::vector<actors::answer_part>& known, const batch_answer& answer) {
  return known.size() <= answer.choices.size() && std::all_of(known.begin(), known.end(), [&](const auto& k) {
           return k.details.size() == (wants_details(answer) ? k.tokens.size() : 0);
         });
}

std::size_t bytes_of(const batch_answer& a) {
  std::size_t out = 256;
  for (const auto& c : a.choices) {
    out += c.text.size() + c.tokens.size() * sizeof(model::sampled_token);
    for (const auto& t : c.tokens) out += t.top.size() * sizeof(model::token_logprob);
  }
  return out;
}

}  // namespace

batch_job::batch_job(engine& e, const options& settings, batch_input& input, batch_journal& journal,
                     int columns, actors::known_answers known)
    : engine_{e},
      settings_{settings},
      input_{input},
      journal_{journal},
      done_before_{journal.done()},
      ids_{journal.take_ids()},
      bytes_before_{journal.input_bytes_done()},
      count_before_{journal.done().count()},
      failed_before_{journal.failed()},
      on_terminal_{columns >= 0},
      most_open_{open_limit(e)},
      progress_{input.facts().size_bytes, columns, clock::now()},
      known_{std::move(known)},
      standby_{e.inform_standby()} {
  facts_.model = model_name(settings);
  facts_.created = journal.begun();
  facts_.tokenizer = e.tokenizer();
  front_end_ = engine_.spawn_front_end(*this);
  engine_.set_failure_handler([this](const std::string& why) { fail(why); });
  writer_ = std::thread{[this] { write_loop(); }};
}

batch_job::~batch_job() {
  engine_.close_front_ends();
  {
    const std::lock_guard lock{mutex_};
    write_no_more_ = true;
  }
  work_.notify_all();
  if (writer_.joinable()) writer_.join();
}

batch_job::outcome batch_job::run() {
  std::optional<std::uint64_t> total;
  try {
    total = read_all();
  } catch (const std::exception& e) {
    fail(e.what());
  }
  wait_for_the_rest();
  {
    const std::lock_guard lock{mutex_};
    write_no_more_ = true;
  }
  work_.notify_all();
  writer_.join();
  const std::lock_guard lock{mutex_};
  if (failed_) return outcome::failed;
  // What the journal holds decides, not what seemed to happen.
  if (!total || journal_.done().count() != *total) return outcome::drained;
  try {
    if (standby_) standby_->wait_for_lease();
    journal_.finish();
  } catch (const batch_taken& e) {
    engine_.leave(e.what());
  }
  return outcome::complete;
}

void batch_job::drain(const std::string& why) {
  const std::lock_guard lock{mutex_};
  if (stopping()) return;
  draining_ = true;
  why_ = why;
  changed_.notify_all();
  work_.notify_all();
}

void batch_job::fail(const std::string& why) {
  const std::lock_guard lock{mutex_};
  if (failed_) return;
  failed_ = true;
  why_ = why;
  changed_.notify_all();
  work_.notify_all();
}

// -- reading ------------------------------------------------------------------

// The number of requests in the input; none when the job ends before all are read.
std::optional<std::uint64_t> batch_job::read_all() {
  input_.seek(done_before_.resume_at());
  std::uint64_t number = done_before_.first_missing();
  input_line line;
  for (; input_.next(line); ++number) {
    if (done_before_.contains(number)) continue;
    batch_line what = line.too_long
                          ? line_too_long(line.number, line.bytes)
                          : read_batch_line(line.text, line.number, settings_.sampling, settings_.stopping);
    name(what, line.number);
    if (auto* error = std::get_if<batch_error>(&what)) {
      const batch_journal::entry entry{number, line.end, line.bytes, batch_journal::kind::error,
                                       digest_of(error->custom_id)};
      if (!wait_for_room(0)) return std::nullopt;
      add_error(entry, line.number, std::move(*error));
    } else {
      submit(line, number, std::move(std::get<batch_request>(what)));
    }
    const std::lock_guard lock{mutex_};
    if (stopping()) return std::nullopt;
  }
  return number;
}

// Every custom_id stands in the output once; a line that brings a known one again is an error.
void batch_job::name(batch_line& what, std::uint64_t line) {
  auto& id = std::visit([](auto& x) -> std::string& { return x.custom_id; }, what);
  const auto own = id;
  const bool saw = !ids_.blind();
  const auto verdict = ids_.claim(id, line);
  if (saw && ids_.blind())
    spdlog::warn("line {}: too many lines to look for repeated custom_ids from here on", line);
  if (verdict == batch_ids::verdict::first) return;
  if (std::holds_alternative<batch_error>(what)) return;  // one error is enough
  what = batch_error{
      id, "duplicate_id",
      "line " + std::to_string(line) + ": custom_id: an earlier line has " + in_quotes(own) + " too"};
}

void batch_job::submit(const input_line& line, std::uint64_t number, batch_request what) {
  open_request open;
  open.entry = {number, line.end, line.bytes, batch_journal::kind::answer, digest_of(what.custom_id)};
  open.answer.line = line.number;
  open.answer.custom_id = what.custom_id;
  open.answer.logprobs = what.logprobs;
  open.answer.alternatives = what.alternatives;
  open.answer.token_ids = what.token_ids;
  open.answer.choices.resize(static_cast<std::size_t>(what.choices));
  open.left = what.choices;

  actors::submit request;
  try {
    const auto* tokens = engine_.tokenizer();
    const auto* text = std::get_if<std::string>(&what.what);
    if (tokens == nullptr && text != nullptr && !text->empty())
      throw std::runtime_error("prompt: the model has no tokenizer: give it as a list of token ids");
    if (tokens == nullptr && !what.stopping.stop.empty())
      throw std::runtime_error("stop: needs a tokenizer, and the model has none");
    auto own = settings_;
    own.sampling = what.sampling;
    own.stopping = std::move(what.stopping);
    request = make_request(number + 1, what.what, own, engine_.architecture(), tokens);
    request.choices = what.choices;
    request.priority = what.priority;
    request.cache_salt = what.cache_salt;
    if (const auto it = known_.find(request.request); it != known_.end()) {
      if (fits(it->second, open.answer)) request.known = std::move(it->second);
      known_.erase(it);
    }
  } catch (const std::exception& e) {
    auto entry = open.entry;
    entry.what = batch_journal::kind::error;
    const auto message = "line " + std::to_string(line.number) + ": " + e.what();
    if (wait_for_room(0)) add_error(entry, line.number, {what.custom_id, "invalid_request", message});
    return;
  }
  open.prompt_tokens = request.prompt.size();
  if (!wait_for_room(open.prompt_tokens)) return;
  {
    const std::lock_guard lock{mutex_};
    open_prompt_tokens_ += open.prompt_tokens;
    open_.emplace(request.request, std::move(open));
  }
  front_end_->send(std::move(request));
}

// False when the job ends first.
bool batch_job::wait_for_room(std::size_t prompt_tokens) {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] {
    return stopping() ||
           ((open_.empty() ||
             (open_.size() < most_open_ && open_prompt_tokens_ + prompt_tokens <= most_open_prompt_tokens)) &&
            finished_bytes_ < most_finished_bytes);
  });
  return !stopping();
}

void batch_job::add_error(const batch_journal::entry& entry, std::uint64_t line, batch_error error) {
  finished what;
  what.entry = entry;
  what.entry.what = batch_journal::kind::error;
  what.answer.line = line;
  what.error = std::move(error);
  const std::lock_guard lock{mutex_};
  push(std::move(what));
}

void batch_job::push(finished&& what) {
  finished_bytes_ += bytes_of(what.answer);
  finished_.push_back(std::move(what));
}

// Until every open request is answered or will not be.
void batch_job::wait_for_the_rest() {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [this] { return open_.empty() || stopping(); });
  if (!draining_ || failed_) return;
  std::size_t running = 0;
  std::vector<std::uint64_t> waiting;
  for (const auto& [id, open] : open_) {
    if (open.begun)
      ++running;
    else
      waiting.push_back(id);
  }
  lock.unlock();
  const auto count = format_count(static_cast<std::int64_t>(running));
  doomed_ = started_by_mpirun() && why_ != name_of_signal(SIGUSR1);
  if (doomed_)
    status_line::say(formatted(
        "fastserve: %s: no request is begun any more; an mpirun that was sent SIGTERM or SIGINT kills its "
        "ranks in a second, and %s that run%s with them: send mpirun SIGUSR1 instead\n",
        why_.c_str(), count.c_str(), running == 1 ? "s" : ""));
  else
    status_line::say(formatted("fastserve: %s: no request is begun any more; %s that run%s %d s to finish\n",
                               why_.c_str(), count.c_str(), running == 1 ? "s has" : " have",
                               settings_.batch.grace_s));
  // What has no token yet would only take time from what has.
  for (const auto id : waiting) front_end_->send(actors::cancel{id});
  lock.lock();
  changed_.wait_for(lock, std::chrono::seconds{settings_.batch.grace_s},
                    [this] { return open_.empty() || failed_; });
}

// -- answers ------------------------------------------------------------------

void batch_job::on_token(const actors::answer_token& token) {
  const std::lock_guard lock{mutex_};
  const auto it = open_.find(token.request);
  if (it == open_.end()) return;
  auto& open = it->second;
  open.begun = true;
  auto& choice = open.answer.choices.at(static_cast<std::size_t>(token.choice));
  choice.text += token.text;
  const bool details = wants_details(open.answer);
  if (details) choice.tokens.push_back(token.token);
  if (standby_) standby_->add(token.request, token.choice, token.token, details);
}

void batch_job::on_done(const actors::answer_done& done) {
  const std::lock_guard lock{mutex_};
  if (failed_) return;  // the job is at fault and not the request, which the next one answers
  const auto it = open_.find(done.request);
  if (it == open_.end()) return;
  auto& choice = it->second.answer.choices.at(static_cast<std::size_t>(done.choice));
  choice.text += done.text;
  choice.finish_reason = done.finish_reason;
  choice.completion_tokens = done.completion_tokens;
  // What is wrong with one is wrong with the line; else the longest one stands for all.
  auto& end = it->second.end;
  const bool worse = end.error.empty() && !done.error.empty();
  const bool cancelled = done.error.empty() && done.finish_reason == "cancelled";
  it->second.taken_back = it->second.taken_back || cancelled;
  if (worse || (end.error.empty() && done.completion_tokens >= end.completion_tokens)) end = done;
  if (--it->second.left > 0) return;
  auto open = std::move(it->second);
  open_.erase(it);
  open_prompt_tokens_ -= open.prompt_tokens;
  changed_.notify_all();
  // Taken back while draining: as if it had never been sent.
  if (open.end.error.empty() && open.taken_back) {
    if (standby_) standby_->close(done.request);
    return;
  }
  finished what;
  what.entry = open.entry;
  what.answer = std::move(open.answer);
  what.answer.prompt_tokens = open.end.prompt_tokens;
  what.refused = !open.end.error.empty();
  what.done = std::move(open.end);
  push(std::move(what));
}

}  // namespace fastserve::launch
