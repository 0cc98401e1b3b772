#pragma once

#include "launch/options.hpp"
#include "mpi/environment.hpp"

namespace fastserve::launch {

// One function a command; each returns the exit code. Those that take an environment are collective and throw
// std::runtime_error on all ranks alike, before anything is served.

int run_console(mpi::environment& env, const options& settings);
/// EX_TEMPFAIL: the batch is not finished, start the same command again.
constexpr int exit_run_again = 75;
int run_batch(mpi::environment& env, const options& settings);

int run_bench(mpi::environment& env, const options& settings);
int run_bench_serve(mpi::environment& env, const options& settings);
int run_simulate(const options& settings);
/// Collective only to measure; alone otherwise.
int run_plan(const options& settings);
int run_plan_measure(mpi::environment& env, const options& settings);
int run_compress(const options& settings);
int run_inspect(const options& settings);
int run_version();

}  // namespace fastserve::launch
