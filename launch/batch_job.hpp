#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "actors/journal_replica.hpp"
#include "launch/batch_answer.hpp"
#include "launch/batch_input.hpp"
#include "launch/batch_journal.hpp"
#include "launch/batch_progress.hpp"
#include "launch/batch_tally.hpp"
#include "launch/engine.hpp"

namespace fastserve::launch {

/// A batch being served: reads the input, keeps a bounded number of requests open, writes the answers through
/// the journal. Three threads: the caller of run() reads and submits, the front end's collects answers, one
/// of its own writes, syncs and shows how far it is.
class batch_job final : public actors::answer_sink {
 public:
  enum class outcome : std::uint8_t {
    complete,  ///< every line has its answer
    drained,   ///< a signal came first; the rest is for another run
    failed,    ///< why() says why; what was committed stays
  };

  /// All arguments outlive the job. `columns` of the terminal on stderr, negative when there is none.
  /// `known`: how answers begin that an earlier leader of the job had not finished.
  batch_job(engine& e, const options& settings, batch_input& input, batch_journal& journal, int columns,
            actors::known_answers known = {});
  ~batch_job() override;

  outcome run();
  /// From any thread: no more requests are begun, those that run may finish within the grace time.
  void drain(const std::string& why);

  const std::string& why() const { return why_; }
  const batch_tally& tally() const { return tally_; }  ///< after run()

  void on_token(const actors::answer_token& token) override;
  void on_done(const actors::answer_done& done) override;

 private:
  using clock = std::chrono::steady_clock;

  struct open_request {
    batch_journal::entry entry;
    batch_answer answer;
    std::size_t prompt_tokens = 0;
    bool begun = false;       // has a token
    std::int32_t left = 1;    // choices that have not ended
    actors::answer_done end;  // of the choice that stands for all
    bool taken_back = false;
  };
  // What the writer has to do: an answer, an error line, or a refusal of the scheduler.
  struct finished {
    batch_journal::entry entry;
    batch_answer answer;
    batch_error error;
    actors::answer_done done;
    bool refused = false;
  };

  std::optional<std::uint64_t> read_all();
  void name(batch_line& what, std::uint64_t line);
  void submit(const input_line& line, std::uint64_t number, batch_request what);
  bool wait_for_room(std::size_t prompt_tokens);
  void add_error(const batch_journal::entry& entry, std::uint64_t line, batch_error error);
  void push(finished&& what);
  void wait_for_the_rest();
  void fail(const std::string& why);
  bool stopping() const { return draining_ || failed_; }

  void write_loop();
  void commit();
  bool drop_failures(std::vector<finished>& group);
  void write(finished& what);
  void show();

  engine& engine_;
  options settings_;  // a copy: a request's own fields are laid over it
  batch_input& input_;
  batch_journal& journal_;
  batch_facts facts_;
  const done_set done_before_;
  batch_ids ids_;  // of the reader
  const std::uint64_t bytes_before_;
  const std::uint64_t count_before_;
  const std::uint64_t failed_before_;
  const bool on_terminal_;
  // The process will be killed: a bar would stay in the terminal's last line.
  std::atomic<bool> doomed_{false};
  const std::size_t most_open_;
  batch_progress progress_;
  batch_tally tally_;                   // of the writer
  actors::known_answers known_;         // of the reader
  std::vector<std::uint64_t> written_;  // of the writer: requests since the last commit
  std::unique_ptr<actors::journal_sender> standby_;
  std::shared_ptr<actors::front_end> front_end_;

  std::mutex mutex_;
  std::condition_variable changed_;  // for run()
  std::condition_variable work_;     // for the writer
  std::unordered_map<std::uint64_t, open_request> open_;
  std::vector<finished> finished_;
  std::size_t open_prompt_tokens_ = 0;
  std::size_t finished_bytes_ = 0;
  bool draining_ = false;
  bool failed_ = false;
  bool write_no_more_ = false;
  std::string why_;
  std::thread writer_;
};

}  // namespace fastserve::launch
