#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>

#include "actors/bring_up.hpp"
#include "launch/batch_job.hpp"
#include "launch/batch_setup.hpp"
#include "launch/batch_signals.hpp"
#include "launch/engine.hpp"
#include "launch/formatted.hpp"
#include "launch/job_status.hpp"
#include "launch/log.hpp"
#include "launch/run.hpp"
#include "launch/startup.hpp"
#include "launch/status_line.hpp"
#include "launch/terminal.hpp"
#include "launch/terminal_probe.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

using clock = std::chrono::steady_clock;

// File servers let go of a dead machine's locks after a while (NFS: 90 s).
constexpr std::chrono::minutes patience_after_a_leader{2};

/// Input and journal, opened before anything is loaded: what is wrong with them shows at once.
struct batch_files {
  explicit batch_files(const options& settings,
                       std::chrono::milliseconds patience = batch_journal::lock_patience,
                       bool successor = false)
      : input{(check_batch_paths(settings), settings.batch.input)},
        journal{settings.batch.output,
                identify_batch(input.facts(), settings),
                std::chrono::duration_cast<std::chrono::seconds>(
                    std::chrono::system_clock::now().time_since_epoch())
                    .count(),
                settings.batch.overwrite,
                patience,
                successor} {}
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
    status_line::say(formatted("fastserve: %s before the first request; run the same command again\n",
                               name_of_signal(number)));
    write_job_status(exit_run_again);
    env_.abort(exit_run_again);
  }
  void second(int number) {
    const std::lock_guard lock{mutex_};
    if (over_) return;
    status_line::say(
        formatted("fastserve: %s as a second signal: ended at once; what OUT.jsonl has is kept\n",
                  name_of_signal(number)));
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

int serve(engine& e, const options& settings, batch_files& files, signal_target& signals,
          actors::known_answers known = {}) {
  const auto facts = find_terminal();
  const bool draws = facts.error_is_terminal && facts.mode != terminal_facts::style::plain;
  const auto begin = clock::now();
  const auto before = files.journal.done().count();
  if (before > 0)
    status_line::say(formatted("fastserve: %s goes on behind %s finished requests\n",
                               settings.batch.output.c_str(),
                               format_count(static_cast<std::int64_t>(before)).c_str()));
  batch_job job{
      e, settings, files.input, files.journal, draws ? size_of_terminal(2).columns : -1, std::move(known)};
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
  status_line::say(tally.summary(seconds));
  switch (outcome) {
    case batch_job::outcome::complete:
      return 0;
    case batch_job::outcome::drained:
      status_line::say(formatted("fastserve: %s is not finished; run the same command again to go on\n",
                                 settings.batch.output.c_str()));
      return exit_run_again;
    case batch_job::outcome::failed:
      break;
  }
  status_line::say(formatted("fastserve: %s\n", job.why().c_str()));
  return 1;
}

void say_complete(const options& settings, const batch_journal& journal) {
  status_line::say(formatted(
      "fastserve: %s is complete: %s requests, %s of them failed; nothing is left to do\n",
      settings.batch.output.c_str(), format_count(static_cast<std::int64_t>(journal.done().count())).c_str(),
      format_count(static_cast<std::int64_t>(journal.failed())).c_str()));
}

// "2 stages on ranks 1, 3"
std::string stages_of(const actors::pipeline_layout& pipeline) {
  std::string ranks;
  for (const auto r : pipeline.stage_ranks) ranks += (ranks.empty() ? "" : ", ") + std::to_string(r);
  const bool one = pipeline.stage_ranks.size() == 1;
  return std::to_string(pipeline.stage_ranks.size()) + (one ? " stage on rank " : " stages on ranks ") +
         ranks;
}

// The leader is lost, and this rank has to take its place: what it left in the files decides what is still to
// be done, what it told its standby spares some of it.
int take_over(mpi::environment& env, engine& e, options settings, actors::succeeded before,
              signal_target& target) {
  env.lead(true);
  start_log(settings.log_level, true);
  const auto facts = find_terminal();
  if (facts.error_is_terminal && facts.mode != terminal_facts::style::plain) status_line::inherit();
  status_line::say(
      formatted("fastserve: rank %d (%s) leads from here on: no word of the leader for %lld ms\n", env.rank(),
                env.host().c_str(), static_cast<long long>(before.silence.count() / 1'000'000)));
  // The launcher tells every rank of a signal: one that came before is read now.
  const batch_signals signals{[&](int n) { target.first(n); }, [&](int n) { target.second(n); }};
  int code = 1;
  try {
    if (auto wrong = e.take_over(before); !wrong.empty()) throw std::runtime_error(wrong);
    settings.batch.overwrite = false;
    batch_files files{settings, patience_after_a_leader, true};
    if (files.journal.complete()) {
      say_complete(settings, files.journal);
      code = 0;
    } else {
      files.journal.claim(static_cast<std::uint64_t>(env.rank()));
      if (const auto wrong = e.bring_up([](const auto&) {}); !wrong.empty()) throw std::runtime_error(wrong);
      const auto layout = e.layout();
      for (const auto& p : layout.pipelines) spdlog::info("epoch {}: {}", p.epoch, stages_of(p));
      spdlog::info("{} answers go on where they were", before.known.size());
      code = serve(e, settings, files, target, std::move(before.known));
    }
  } catch (const batch_busy& problem) {
    // The leader lives, elsewhere: how the job ends is for it to say.
    status_line::say(formatted("fastserve: rank %d leaves: %s\n", env.rank(), problem.what()));
    env.lead(false);
  } catch (const std::exception& problem) {
    status_line::say(formatted("fastserve: rank %d cannot take over: %s\n", env.rank(), problem.what()));
  }
  target.aim(nullptr);
  return e.finish(code);
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
    if (env.leader()) say_complete(settings, files->journal);
    target.aim(nullptr);
    return 0;
  }

  engine e{env, settings};
  if (!env.leader()) {
    // The leader alone says 75: a launcher that kills the others for it must not find theirs.
    actors::succeeded before;
    const auto code = e.follow_or_lead(before);
    if (!code) return take_over(env, e, settings, std::move(before), target);
    return *code == exit_run_again ? 0 : *code;
  }
  int code = 1;
  try {
    if (start_engine(e, settings)) code = serve(e, settings, *files, target);
  } catch (const std::exception& problem) {
    status_line::say(formatted("fastserve: %s\n", problem.what()));
  }
  target.aim(nullptr);
  return e.finish(code);
}

}  // namespace fastserve::launch
