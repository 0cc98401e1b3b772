#include <spdlog/spdlog.h>

#include <stdexcept>

#include "actors/journal_sender.hpp"
#include "launch/batch_job.hpp"
#include "launch/status_line.hpp"
#include "launch/utf8_text.hpp"

// The writing half of batch_job: everything here runs on its own thread.

namespace fastserve::launch {

namespace {

constexpr auto look_interval = std::chrono::milliseconds{100};

// A group is committed after this long or this much, and the tenth of a second that looking takes at most
// when it is the first, which shows that the job is under way, and while the job drains, when every moment
// may be the last.
constexpr auto commit_interval = std::chrono::seconds{1};
constexpr std::size_t commit_bytes = std::size_t{4} << 20;

// The longest line of output; a journal's record holds its length in 32 bits.
constexpr std::size_t most_output_line_bytes = std::size_t{1} << 30;

}  // namespace

void batch_job::write_loop() {
  auto committed = clock::now() - commit_interval;
  try {
    for (bool last = false; !last;) {
      std::vector<finished> group;
      bool urgent = false;
      {
        std::unique_lock lock{mutex_};
        work_.wait_for(lock, look_interval, [this] { return write_no_more_; });
        group.swap(finished_);
        finished_bytes_ = 0;
        urgent = stopping();
        last = write_no_more_;
      }
      changed_.notify_all();
      if (!group.empty() && !drop_failures(group)) return;
      for (auto& what : group) {
        write(what);
        if (journal_.pending_bytes() >= commit_bytes) {
          commit();
          committed = clock::now();
        }
      }
      if (last || urgent || (!written_.empty() && clock::now() - committed >= commit_interval)) {
        commit();
        committed = clock::now();
      }
      if (!last) show();
    }
  } catch (const batch_taken& e) {
    engine_.leave(e.what());
  } catch (const std::exception& e) {
    fail(e.what());
  }
  if (on_terminal_) status_line::clear();
}

// Only while no other rank can have taken the batch over; and what is on the disk the standby need not keep.
void batch_job::commit() {
  if (standby_ && !written_.empty()) standby_->wait_for_lease();
  journal_.commit();
  for (const auto request : written_)
    if (standby_) standby_->close(request);
  written_.clear();
}

// A scheduler that cannot go on refuses all that is open, and says so right after. Such a refusal is not the
// request's own fault and must not become its answer: asking the scheduler anything, and having its reply,
// tells them apart. False when the job has to end; what is in order is kept either way.
bool batch_job::drop_failures(std::vector<finished>& group) {
  bool doubtful = false;
  for (const auto& what : group) doubtful = doubtful || what.refused;
  if (!doubtful) return true;
  for (;;) {
    const bool replied = engine_.stats().kv_tokens > 0;
    const std::lock_guard lock{mutex_};
    if (failed_) break;
    if (replied) return true;
    if (write_no_more_) break;
  }
  std::erase_if(group, [](const finished& what) { return what.refused; });
  return true;
}

void batch_job::write(finished& what) {
  std::string line;
  if (what.refused) {
    what.entry.what = batch_journal::kind::error;
    what.error = {what.answer.custom_id, "refused",
                  "line " + std::to_string(what.answer.line) + ": " + what.done.error};
  }
  if (what.entry.what == batch_journal::kind::answer) {
    line = format_batch_answer(what.answer, facts_);
    if (line.size() > most_output_line_bytes) {
      what.entry.what = batch_journal::kind::error;
      what.error = {what.answer.custom_id, "answer_too_long",
                    "line " + std::to_string(what.answer.line) + ": an answer of more than a gigabyte"};
    }
  }
  if (what.entry.what == batch_journal::kind::error) {
    line = format_batch_error(what.answer.line, what.error);
    ++tally_.failed;
  } else {
    tally_.add_answer(what.answer.prompt_tokens, what.answer.completion_tokens(), what.done.completion_tokens,
                      what.done.first_token_ns, what.done.total_ns);
  }
  tally_.input_bytes += what.entry.input_bytes;
  journal_.append(what.entry, line);
  written_.push_back(what.entry.request + 1);  // as it was submitted
}

void batch_job::show() {
  batch_state state;
  state.input_bytes_done = bytes_before_ + tally_.input_bytes;
  state.done = count_before_ + tally_.answered + tally_.failed;
  state.failed = failed_before_ + tally_.failed;
  state.run_input_bytes = tally_.input_bytes;
  state.run_done = tally_.answered + tally_.failed;
  state.run_tokens_out = tally_.tokens_out;
  if (doomed_) return;
  if (on_terminal_) {
    status_line::draw(progress_.draw(state, clock::now()));
  } else if (const auto line = progress_.report(state, clock::now()); !line.empty()) {
    spdlog::info(line);
  }
}

}  // namespace fastserve::launch
