// What the scheduler itself costs, with few and with many requests waiting: a table. A column that grows with
// the number waiting is a bug.
// Usage: bench_scheduler [steps]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "scheduler/scheduler.hpp"

namespace {

namespace sched = fastserve::scheduler;
using clock = std::chrono::steady_clock;

constexpr std::int32_t prompt_tokens = 128;
constexpr std::int32_t batch = 64;
constexpr sched::time step_time = std::chrono::milliseconds{2};

sched::request request_of(std::uint64_t id) {
  sched::request r;
  r.id = sched::request_id{id};
  r.prompt.resize(prompt_tokens);
  for (std::size_t i = 0; i < r.prompt.size(); ++i)
    r.prompt[i] = static_cast<std::int32_t>((id * 7919 + i * 104729) % 50000);
  r.max_tokens = static_cast<std::int32_t>(64 + id % 512);
  return r;
}

struct figures {
  double add_us = 0;       // add(): into the queue, median
  double sequence_us = 0;  // a decoding sequence and step, median over steps
  double prompt_us = 0;    // a prompt placed in a micro-batch, with matching and filling the prefix cache
};

double median(std::vector<double>& v) {
  if (v.empty()) return 0;
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

double since_us(clock::time_point from) {
  return std::chrono::duration<double, std::micro>(clock::now() - from).count();
}

sched::limits limits_of(const std::string& policy) {
  sched::limits l;
  l.max_batch = batch;
  l.token_budget = 512;
  l.kv_blocks = 64 * 1024;
  l.max_context = 2048;
  l.policy.name = policy;
  return l;
}

// One step; returns what the scheduler took for it, in microseconds, and what was in it.
struct step_cost {
  double us = 0;
  std::size_t entries = 0;
  bool decodes = true;
};

step_cost step(sched::scheduler& s, sched::time& now) {
  step_cost out;
  auto from = clock::now();
  const auto b = s.schedule(now);
  out.us = since_us(from);
  if (!b) return out;
  std::vector<sched::drawn_token> drawn;
  for (const auto& e : b->entries) {
    if (e.samples) drawn.push_back({e.id, 1});
    out.decodes = out.decodes && e.tokens.size() == 1;
  }
  out.entries = b->entries.size();
  now += step_time;
  from = clock::now();
  s.complete(b->step, drawn, now);
  out.us += since_us(from);
  return out;
}

// The waiting ones have a lower priority, so that a full batch decodes beside them.
void measure_decode(const std::string& policy, int waiting, int steps, figures& out) {
  sched::scheduler s{limits_of(policy)};
  sched::time now{};
  std::uint64_t id = 1;
  for (int i = 0; i < waiting; ++i) {
    auto r = request_of(id++);
    r.priority = -1;
    s.add(std::move(r), now);
  }
  for (int i = 0; i < batch; ++i) {
    auto r = request_of(id++);
    r.max_tokens = 1900;
    s.add(std::move(r), now);
  }
  std::vector<double> adds, shares;
  for (int i = 0; i < std::min(steps, 1800); ++i) {
    auto r = request_of(id++);
    r.priority = -1;
    const auto from = clock::now();
    s.add(std::move(r), now);
    adds.push_back(since_us(from));
    const auto cost = step(s, now);
    if (cost.decodes && cost.entries == batch) shares.push_back(cost.us / batch);
  }
  out.add_us = median(adds);
  out.sequence_us = median(shares);
}

// All alike: the policy takes prompts from the queue as it likes.
void measure_prompts(const std::string& policy, int waiting, int steps, figures& out) {
  sched::scheduler s{limits_of(policy)};
  sched::time now{};
  std::uint64_t id = 1;
  for (int i = 0; i < waiting; ++i) {
    auto r = request_of(id++);
    r.max_tokens = 1;
    s.add(std::move(r), now);
  }
  std::vector<double> shares;
  for (int i = 0; i < steps; ++i) {
    const auto cost = step(s, now);
    if (cost.entries == 0) break;
    shares.push_back(cost.us / static_cast<double>(cost.entries));
  }
  out.prompt_us = median(shares);
}

}  // namespace

int main(int argc, char** argv) {
  const int steps = argc > 1 ? std::max(std::atoi(argv[1]), 1) : 2000;
  std::printf("%-8s %9s %10s %24s %26s\n", "policy", "waiting", "us an add", "us a sequence and step",
              "us a prompt of 128 tokens");
  for (const auto& policy : sched::policy_names())
    for (const int waiting : {100, 10'000, 100'000}) {
      figures f;
      measure_decode(policy, waiting, steps, f);
      measure_prompts(policy, waiting, steps, f);
      std::printf("%-8s %9d %10.2f %24.3f %26.2f\n", policy.c_str(), waiting, f.add_us, f.sequence_us,
                  f.prompt_us);
    }
}
