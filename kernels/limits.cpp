#include "kernels/limits.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>
#include <iterator>

#include "kernels/cpu/dispatch.hpp"
#include "kernels/cpu/memory.hpp"
#include "kernels/cpu/team.hpp"

namespace fastserve::kernels {
namespace {

using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point start) {
  return std::chrono::duration<double>(clock::now() - start).count();
}

constexpr double budget_s = 0.2;
constexpr std::size_t probe_bytes = std::size_t{384} << 20;  // several times any last-level cache slice

/// On a thread that ends with it. libgomp keeps a pool for each thread that has had one, and once all pools
/// together have more threads than there are cores it lets idle ones sleep almost at once: in a process that
/// had measured so, a region on two cores began 30 us late.
template <class Work>
auto on_its_own_thread(Work work) {
  return std::async(std::launch::async, work).get();
}

double read_bandwidth(int threads) {
  const auto& table = cpu::choose_table({});
  const cpu::thread_team team{threads};
  const auto memory = cpu::allocate_memory(probe_bytes);
  auto* data = static_cast<char*>(memory.data());
  const std::size_t part = probe_bytes / static_cast<std::size_t>(team.size()) / 64 * 64;
  const auto of = [&](int thread) { return data + static_cast<std::size_t>(thread) * part; };
  team.run(true, [&](int thread, int) { std::memset(of(thread), 0, part); });
  double best = 0;
  constexpr int stream_counts[] = {1, 4, 16};
  std::size_t next = 0;
  for (const auto start = clock::now(); next < std::size(stream_counts) || seconds_since(start) < budget_s;) {
    const int streams = stream_counts[next++ % std::size(stream_counts)];
    std::size_t read = 0;
    const auto round = clock::now();
    team.run(true, [&](int thread, int count) {
      volatile float sink = table.read_memory(of(thread), static_cast<std::int64_t>(part), streams);
      (void)sink;
      if (thread == 0) read = part * static_cast<std::size_t>(count);
    });
    best = std::max(best, static_cast<double>(read) / seconds_since(round));
  }
  return best;
}

double peak_ops(dtype type, int threads, const std::string& isa) {
  const auto& table = cpu::choose_table(isa);
  const cpu::thread_team team{threads};
  const auto probe = type == dtype::q8     ? table.multiply_i8
                     : type == dtype::bf16 ? table.multiply_bf16
                                           : table.multiply_f32;
  std::int64_t rounds = 1 << 16;
  double best = 0;
  for (const auto start = clock::now(); best == 0 || seconds_since(start) < budget_s;) {
    double ops = 0;
    const auto round = clock::now();
    team.run(true, [&](int thread, int count) {
      const double mine = probe(rounds);
      if (thread == 0) ops = mine * count;
    });
    const double took = seconds_since(round);
    best = std::max(best, ops / took);
    if (took < 0.01) rounds *= 2;
  }
  return best;
}

}  // namespace

double measure_read_bandwidth(int threads) {
  return on_its_own_thread([&] { return read_bandwidth(threads); });
}

double measure_peak_ops(dtype type, int threads, const std::string& isa) {
  return on_its_own_thread([&] { return peak_ops(type, threads, isa); });
}

double measure_copy_bandwidth(backend& on) {
  constexpr std::int64_t rows = std::int64_t{1} << 18;
  constexpr std::int64_t cols = 1024;
  const auto stream = on.make_stream();
  const auto from = on.allocate(bytes_of(dtype::f32, rows, cols));
  const auto to = on.allocate(bytes_of(dtype::f32, rows, cols));
  double best = 0;
  for (const auto start = clock::now(); best == 0 || seconds_since(start) < budget_s;) {
    const auto round = clock::now();
    on.copy(to.view(dtype::f32, rows, cols), from.view(dtype::f32, rows, cols), *stream);
    stream->synchronize();
    best = std::max(best, 2.0 * static_cast<double>(from.bytes()) / seconds_since(round));
  }
  return best;
}

}  // namespace fastserve::kernels
