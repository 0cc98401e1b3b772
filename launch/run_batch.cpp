#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>

#include "launch/batch_job.hpp"
#include "launch/batch_setup.hpp"
#include "launch/batch_signals.hpp"
#include "launch/engine.hpp"
#include "launch/job_status.hpp"
#include "launch/run.hpp"
#include "launch/startup.hpp"
#include "launch/terminal.hpp"
#include "launch/terminal_probe.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

using clock = std::chrono::steady_clock;

/// Input and journal, opened before anything is loaded: what is wrong with them shows at once.
struct batch_files {
  explicit batch_files(const options& settings)
      : input{(check_batch_paths(settings), settings.batch.input)},
        journal{settings.batch.output, identify_batch(input.facts(), settings),
                std::chrono::duration_cast<std::chrono::seconds>(
                    std::chrono::system_clock::now().time_since_epoch())
                    .count(),
                settings.batch.overwrite} {}
  batch_input input;
  batch_journal journal;
};

/// Where signals go: nowhere yet, to the job, or nowhere any more.
class signal_target {
 public:
  explicit signal_target(mpi::environment& env) : env_{env} {}

  void first(int number) {
    const std::lock_guard lock{mutex_};
    if (over_) return;
    if (job_ != nullptr) {
      job_->drain(name_of_signal(number));
      return;
    }
    // Nothing has begun: nothing to wait for, and loading may outlast the time that is left.
    std::fprintf(stderr, "fastserve: %s before the first request; run the same command again\n",
                 name_of_signal(number));
    write_job_status(exit_run_again);
    env_.abort(exit_run_again);
  }
  void second(int number) {
    const std::lock_guard lock{mutex_};
    if (over_) return;
    std::fprintf(stderr, "fastserve: %s again: ended at once; what OUT.jsonl has is kept\n",
                 name_of_signal(number));
    write_job_status(exit_run_again);
    env_.abort(exit_run_again);
  }
  void aim(batch_job* job) {
    const std::lock_guard lock{mutex_};
    job_ = job;
    over_ = job == nullptr;
  }

 private:
  mpi::environment& env_;
  std::mutex mutex_;
  batch_job* job_ = nullptr;
  bool over_ = false;
};

int serve(engine& e, const options& settings, batch_files& files, signal_target& signals) {
  const auto facts = find_terminal();
  const bool draws = facts.error_is_terminal && facts.mode != terminal_facts::style::plain;
  const auto begin = clock::now();
  const auto before = files.journal.done().count();
  if (before > 0)
    std::fprintf(stderr, "fastserve: %s goes on behind %s finished requests\n", settings.batch.output.c_str(),
                 format_count(static_cast<std::int64_t>(before)).c_str());
  batch_job job{e, settings, files.input, files.journal, draws ? size_of_terminal(2).columns : -1};
  signals.aim(&job);
  const auto outcome = job.run();
  signals.aim(nullptr);
  const auto seconds = std::chrono::duration<double>(clock::now() - begin).count();
  auto tally = job.tally();
  if (outcome != batch_job::outcome::failed) {
    const auto stats = e.stats();
    tally.prefix_hit_tokens = stats.prefix_hit_tokens;
    tally.preemptions = stats.preemptions;
  }
  std::fputs(tally.summary(seconds).c_str(), stderr);
  switch (outcome) {
    case batch_job::outcome::complete:
      return 0;
    case batch_job::outcome::drained:
      std::fprintf(stderr, "fastserve: %s is not finished; run the same command again to go on\n",
                   settings.batch.output.c_str());
      return exit_run_again;
    case batch_job::outcome::failed:
      break;
  }
  std::fprintf(stderr, "fastserve: %s\n", job.why().c_str());
  return 1;
}

}  // namespace

int run_batch(mpi::environment& env, const options& settings) {
  signal_target target{env};
  std::optional<batch_signals> signals;
  std::unique_ptr<batch_files> files;
  std::string error;
  if (env.leader()) {
    signals.emplace([&](int n) { target.first(n); }, [&](int n) { target.second(n); });
    try {
      files = std::make_unique<batch_files>(settings);
    } catch (const std::exception& e) {
      error = e.what();
    }
  }
  if (const auto failure = env.agree(error)) throw std::runtime_error(failure->text);
  const bool complete =
      env.allgather(files && files->journal.complete() ? "complete" : "").front() == "complete";
  if (complete) {
    if (env.leader())
      std::fprintf(stderr,
                   "fastserve: %s is complete: %s requests, %s of them failed; nothing is left to do\n",
                   settings.batch.output.c_str(),
                   format_count(static_cast<std::int64_t>(files->journal.done().count())).c_str(),
                   format_count(static_cast<std::int64_t>(files->journal.failed())).c_str());
    target.aim(nullptr);
    return 0;
  }

  engine e{env, settings};
  if (!env.leader()) {
    // The leader alone says 75: a launcher that kills the others for it must not find theirs.
    const int code = e.follow();
    return code == exit_run_again ? 0 : code;
  }
  int code = 1;
  try {
    if (start_engine(e)) code = serve(e, settings, *files, target);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "fastserve: %s\n", problem.what());
  }
  target.aim(nullptr);
  return e.finish(code);
}

}  // namespace fastserve::launch
