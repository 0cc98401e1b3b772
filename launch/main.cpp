#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/waiting.hpp"
#include "launch/batch_signals.hpp"
#include "launch/command_line.hpp"
#include "launch/job_status.hpp"
#include "launch/log.hpp"
#include "launch/output.hpp"
#include "launch/run.hpp"
#include "launch/stale_segments.hpp"
#include "mpi/environment.hpp"

namespace {

using namespace fastserve;

int serve(mpi::environment& env, launch::options& settings) {
  try {
    switch (settings.what) {
      case launch::command::batch:
        return launch::run_batch(env, settings);
      case launch::command::bench:
        return launch::run_bench(env, settings);
      case launch::command::bench_serve:
        return launch::run_bench_serve(env, settings);
      case launch::command::plan:
        return launch::run_plan_measure(env, settings);
      default:
        return launch::run_console(env, settings);
    }
  } catch (const std::exception& e) {
    // What reaches this place was agreed on by all ranks: one of them speaks.
    if (env.leader()) std::fprintf(stderr, "fastserve: %s\n", e.what());
    return 1;
  }
}

int run(launch::options& settings) {
  switch (settings.what) {
    case launch::command::inspect:
      return launch::run_inspect(settings);
    case launch::command::version:
      return launch::run_version();
    case launch::command::simulate:
      return launch::run_simulate(settings);
    case launch::command::compress:
      return launch::run_compress(settings);
    case launch::command::plan:
      if (!settings.plan.measure) return launch::run_plan(settings);
      break;
    case launch::command::console:
    case launch::command::bench:
    case launch::command::bench_serve:
      break;
    case launch::command::batch:
      // Before MPI starts its threads: they must not be the ones that signals find.
      launch::batch_signals::block();
      break;
  }
  if (mpi::environment::launched()) launch::remove_stale_segments();
  mpi::environment env{std::chrono::seconds{settings.failover.start_timeout_s}};
  launch::start_log(settings.log_level, env.leader());
  if (const auto wrong = env.agree(env.leader() ? launch::job_status_problem() : std::string{})) {
    if (env.leader()) std::fprintf(stderr, "fastserve: %s\n", wrong->text.c_str());
    return 1;
  }
  const int code = launch::code_of_output(serve(env, settings));
  if (env.leader()) launch::write_job_status(code);  // before MPI ends, which may take its time
  return code;
}

// Help, versions and refusals are the same on every rank; one of them prints.
bool speaks(const mpi::environment* env) { return env == nullptr || env->leader(); }

}  // namespace

int main(int argc, char** argv) {
  kernels::cpu::bound_idle_spinning(argv);
  launch::clear_job_status();
  const auto invocation = launch::read_command_line({argv + 1, argv + argc});
  auto settings = invocation.settings;
  using outcome = launch::invocation::outcome;
  try {
    const bool alone =
        settings.what == launch::command::inspect || settings.what == launch::command::compress ||
        settings.what == launch::command::simulate || settings.what == launch::command::version ||
        (settings.what == launch::command::plan && !settings.plan.measure);
    if (invocation.what == outcome::run && !alone) {
      const int code = run(settings);
      // The other ranks end first, with 0: a launcher that kills them for this code would report their death.
      if (code == launch::exit_run_again) std::this_thread::sleep_for(std::chrono::milliseconds{200});
      return code;
    }

    std::unique_ptr<mpi::environment> env;
    if (mpi::environment::launched()) env = std::make_unique<mpi::environment>();
    if (!speaks(env.get())) return invocation.what == outcome::refuse ? invocation.exit_code : 0;
    int code = invocation.exit_code;
    if (invocation.what == outcome::run)
      code = run(settings);
    else
      std::fputs(invocation.text.c_str(), invocation.what == outcome::print ? stdout : stderr);
    code = launch::code_of_output(code);
    launch::write_job_status(code);
    return code;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "fastserve: %s\n", e.what());
    return 1;
  }
}
