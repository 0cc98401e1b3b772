#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>

#include "actors/measured_speed.hpp"
#include "kernels/tensor.hpp"
#include "launch/cluster_file.hpp"
#include "launch/measure_ranks.hpp"
#include "launch/rank_threads.hpp"
#include "launch/run.hpp"
#include "mpi/link_probe.hpp"
#include "mpi/message_pump.hpp"
#include "mpi/mpi_tensor_channel.hpp"

namespace fastserve::launch {

namespace {

using kernels::dtype;

constexpr std::uint32_t epoch = 1;
constexpr std::chrono::seconds answer_deadline{5};  // of one message; a rank that is gone is reported then
constexpr std::chrono::seconds stop_deadline{5};
constexpr std::uint64_t steps_of_probe = 128;
constexpr std::uint64_t report_step = std::uint64_t{1} << 40;
constexpr int most_ranks = 256;            // so many groups has a cluster file
constexpr double alike = 1.1;              // ranks of a host within this are one group
constexpr std::size_t speed_numbers = 11;  // of a report, before its links

// Who plays with whom in a round, so that all pairs have met after size - 1 rounds (the circle method of
// round-robin tournaments). -1: nobody.
int partner(int rank, int round, int size) {
  const int n = size + size % 2;
  const auto wrap = [&](int v) { return ((v % (n - 1)) + (n - 1)) % (n - 1); };
  int other = 0;
  if (rank == n - 1) {
    // The fixed one meets whoever stands opposite: 2 * other = round.
    for (other = 0; wrap(2 * other) != wrap(round); ++other) {
    }
  } else {
    other = wrap(round - rank);
    if (other == rank) other = n - 1;
  }
  return other < size ? other : -1;
}

std::vector<float> numbers_of(const actors::rank_speed& s, std::uint64_t memory) {
  std::vector<float> out;
  for (const auto r : s.ops_per_s) out.push_back(static_cast<float>(r));
  out.push_back(static_cast<float>(s.bytes_per_s));
  out.push_back(static_cast<float>(s.elements_per_s));
  out.push_back(static_cast<float>(s.operation_s));
  out.push_back(static_cast<float>(memory));
  out.push_back(static_cast<float>(s.alone_ops));
  out.push_back(static_cast<float>(s.alone_bytes));
  return out;
}

planner::rank_profile profile_from(int rank, const std::string& host, const float* n) {
  actors::rank_speed speed;
  speed.ops_per_s.assign(n, n + planner::arithmetics);
  n += planner::arithmetics;
  speed.bytes_per_s = n[0];
  speed.elements_per_s = n[1];
  speed.operation_s = n[2];
  speed.alone_ops = n[4];
  speed.alone_bytes = n[5];
  actors::node_profile node;
  node.rank = rank;
  node.host = host;
  node.memory_bytes = static_cast<std::uint64_t>(n[3]);
  return actors::profile_of(node, speed);
}

bool are_alike(const planner::rank_profile& a, const planner::rank_profile& b) {
  const auto near = [](double x, double y) { return std::max(x, y) <= alike * std::min(x, y); };
  for (std::size_t i = 0; i < planner::arithmetics; ++i)
    if (!near(a.ops_per_s[i], b.ops_per_s[i])) return false;
  return near(a.bytes_per_s, b.bytes_per_s);
}

// Ranks that are alike on one host become a group, with the slowest one's figures and the worst link.
planner::cluster grouped(std::vector<planner::rank_profile> ranks,
                         const std::function<mpi::link_figures(std::size_t, std::size_t)>& link) {
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    auto g = groups.begin();
    while (g != groups.end() &&
           (ranks[g->front()].name != ranks[r].name || !are_alike(ranks[g->front()], ranks[r])))
      ++g;
    if (g == groups.end()) g = groups.insert(g, std::vector<std::size_t>{});
    g->push_back(r);
  }
  planner::cluster out;
  out.groups = groups.size();
  out.links.assign(groups.size() * groups.size(), {});
  std::map<std::string, int> named;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    auto slowest = ranks[groups[g].front()];
    for (const auto r : groups[g]) {
      for (std::size_t i = 0; i < planner::arithmetics; ++i)
        slowest.ops_per_s[i] = std::min(slowest.ops_per_s[i], ranks[r].ops_per_s[i]);
      slowest.bytes_per_s = std::min(slowest.bytes_per_s, ranks[r].bytes_per_s);
      slowest.memory_bytes = std::min(slowest.memory_bytes, ranks[r].memory_bytes);
    }
    const auto nth = ++named[slowest.name];
    if (nth > 1) slowest.name += " (" + std::to_string(nth) + ")";
    slowest.group = static_cast<int>(g);
    for (std::size_t i = 0; i < groups[g].size(); ++i) {
      slowest.rank = static_cast<int>(out.ranks.size());
      out.ranks.push_back(slowest);
    }
  }
  for (std::size_t a = 0; a < groups.size(); ++a)
    for (std::size_t b = 0; b < groups.size(); ++b) {
      auto& l = out.links[a * groups.size() + b];
      for (const auto x : groups[a])
        for (const auto y : groups[b]) {
          if (x == y) continue;
          const auto f = link(x, y);
          l.latency_s = std::max(l.latency_s, f.latency_s);
          l.bytes_per_s = l.bytes_per_s == 0 ? f.bytes_per_s : std::min(l.bytes_per_s, f.bytes_per_s);
        }
    }
  return out;
}

}  // namespace

int run_plan_measure(mpi::environment& env, const options& settings) {
  const int n = env.size();
  if (n > most_ranks)
    throw std::runtime_error("--measure works for up to " + std::to_string(most_ranks) + " ranks, here are " +
                             std::to_string(n));
  const int threads = choose_threads(settings, env);
  std::string error;
  std::unique_ptr<kernels::backend> backend;
  try {
    backend = kernels::make_cpu_backend(threads);
  } catch (const std::exception& e) {
    error = e.what();
  }
  if (const auto failure = env.agree(error)) throw std::runtime_error(failure->text);
  const auto hosts = env.allgather(env.host());
  using planner::arithmetic;
  const auto measured = measure_ranks(
      *backend, {arithmetic::bf16, arithmetic::f32, arithmetic::f16, arithmetic::int8, arithmetic::int4},
      env);
  if (const auto failure = env.agree(measured ? "" : "no memory to measure with"))
    throw std::runtime_error(failure->text);
  const auto& speed = *measured;
  env.begun();  // from here on each message has a deadline

  mpi::message_pump pump{env};
  mpi::mpi_tensor_channel channel{pump};
  pump.start();
  auto mine = numbers_of(speed, backend->info().memory_bytes / static_cast<std::uint64_t>(env.local_size()));
  mine.resize(speed_numbers + 2 * static_cast<std::size_t>(n));
  for (int round = 0; round < n - 1 + n % 2; ++round) {
    const int peer = partner(env.rank(), round, n);
    if (peer < 0) continue;
    const auto first = steps_of_probe * static_cast<std::uint64_t>(round);
    const auto found = mpi::probe_link(channel, env.rank(), peer, epoch, first, *backend, answer_deadline);
    if (!found) continue;  // zeros: the leader says who did not answer
    mine[speed_numbers + 2 * static_cast<std::size_t>(peer)] = static_cast<float>(found->latency_s);
    mine[speed_numbers + 2 * static_cast<std::size_t>(peer) + 1] = static_cast<float>(found->bytes_per_s);
  }

  const auto stream = backend->make_stream();
  const auto columns = static_cast<std::int64_t>(mine.size());
  const auto room = backend->allocate(mine.size() * sizeof(float));
  const auto row = room.view(dtype::f32, 1, columns);
  int code = 0;
  if (env.leader()) {
    std::vector<std::vector<float>> all(static_cast<std::size_t>(n));
    all[0] = mine;
    for (int r = 1; r < n && code == 0; ++r) {
      auto& numbers = all[static_cast<std::size_t>(r)];
      numbers.resize(mine.size());
      if (channel.receive(r, {epoch, report_step}, row, *backend, *stream, answer_deadline)) {
        backend->download(numbers.data(), row, *stream);
      } else {
        std::fprintf(stderr, "fastserve: rank %d (%s) does not answer\n", r,
                     hosts[static_cast<std::size_t>(r)].c_str());
        code = 1;
      }
    }
    std::vector<planner::rank_profile> ranks;
    for (int r = 0; r < n && code == 0; ++r) {
      const auto at = static_cast<std::size_t>(r);
      ranks.push_back(profile_from(r, hosts[at], all[at].data()));
    }
    const auto link = [&](std::size_t a, std::size_t b) {
      const auto* f = &all[std::min(a, b)][speed_numbers + 2 * std::max(a, b)];
      return mpi::link_figures{f[0], f[1]};
    };
    for (std::size_t a = 0; a < ranks.size() && code == 0; ++a)
      for (std::size_t b = a + 1; b < ranks.size() && code == 0; ++b)
        if (link(a, b).bytes_per_s <= 0) {
          std::fprintf(stderr, "fastserve: ranks %zu and %zu did not reach each other\n", a, b);
          code = 1;
        }
    if (code == 0) std::fputs(format_cluster(grouped(std::move(ranks), link)).c_str(), stdout);
  } else {
    backend->upload(row, mine.data(), *stream);
    channel.send(0, {epoch, report_step}, row, *backend, *stream);
  }
  const auto ended = pump.stop(stop_deadline);
  return ended.clean ? code : std::max(code, 1);
}

}  // namespace fastserve::launch
