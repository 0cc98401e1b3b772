// A million short requests through the scheduler, with shared prefixes, cancels, a pool too small for them
// and swapping; in the end nothing may be left behind. Usage: soak_scheduler [requests]

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <random>
#include <stdexcept>
#include <vector>

#include "scheduler/scheduler.hpp"

namespace {

namespace sched = fastserve::scheduler;
using std::chrono::microseconds;

constexpr std::int32_t blocks = 96;
constexpr std::size_t open_requests = 64;
constexpr std::uint64_t steps_between_checks = 1000;

struct flight {
  sched::step_id step{};
  std::vector<sched::drawn_token> drawn;
};

class soak {
 public:
  soak(const std::string& policy, unsigned seed) : under_test_{limits_of(policy)}, random_{seed} {}

  void run(std::uint64_t requests) {
    while (added_ < requests || !under_test_.idle()) {
      now_ += microseconds{100};
      while (added_ < requests && open_.size() < open_requests) add();
      if (added_ % 50 == 0 && !open_.empty()) cancel();
      if (auto batch = under_test_.schedule(now_)) {
        flight f{batch->step, {}};
        for (const auto& e : batch->entries)
          if (e.samples) f.drawn.push_back({e.id, static_cast<std::int32_t>(random_() % 50)});
        flying_.push_back(std::move(f));
      } else if (flying_.empty() && !under_test_.idle()) {
        throw std::logic_error("nothing runs and nothing can");
      }
      under_test_.take_moves();
      if (!flying_.empty() && (flying_.size() == 2 || random_() % 4 == 0)) land();
    }
    while (!flying_.empty()) land();
    under_test_.check_integrity();
    const auto c = under_test_.count();
    if (ended_ != added_) throw std::logic_error("a request has not ended");
    if (c.kv_blocks_free != c.kv_blocks) throw std::logic_error("KV blocks are leaked");
    if (c.swap_slots_free != c.swap_slots) throw std::logic_error("swap slots are leaked");
  }
  sched::counters count() const { return under_test_.count(); }

 private:
  static sched::limits limits_of(const std::string& policy) {
    sched::limits l;
    l.stages = 2;
    l.max_batch = 16;
    l.token_budget = 128;
    l.kv_blocks = blocks;
    l.max_context = 256;
    l.policy.name = policy;
    l.swap.memory_slots = blocks;
    l.swap.disk_slots = blocks;
    return l;
  }
  void add() {
    sched::request r;
    r.id = sched::request_id{++added_};
    // Half of them begin with one of eight texts.
    const auto text = static_cast<std::int32_t>(random_() % 16);
    const auto shared = text < 8 ? 16 * (random_() % 5) : 0;
    const auto length = shared + 1 + random_() % 48;
    for (std::size_t i = 0; i < length; ++i)
      r.prompt.push_back(i < shared ? text * 1000 + static_cast<std::int32_t>(i)
                                    : static_cast<std::int32_t>(random_() % 50));
    r.max_tokens = static_cast<std::int32_t>(1 + random_() % 32);
    r.stop_ids = {7};
    r.priority = static_cast<std::int32_t>(random_() % 3);
    r.cache_salt = random_() % 2;
    const auto id = r.id;
    if (const auto why = under_test_.add(std::move(r), now_); !why.empty()) throw std::logic_error(why);
    open_.push_back(id);
  }
  void end(sched::request_id id) {
    ++ended_;
    std::erase(open_, id);
  }
  void cancel() {
    const auto id = open_[random_() % open_.size()];
    if (under_test_.finish(id, sched::finish_reason::cancelled, now_)) end(id);
  }
  void land() {
    const auto f = std::move(flying_.front());
    flying_.pop_front();
    for (const auto& p : under_test_.complete(f.step, f.drawn, now_))
      if (p.finished) end(p.id);
    if (++landed_ % steps_between_checks == 0) under_test_.check_integrity();
  }

  sched::scheduler under_test_;
  std::mt19937 random_;
  sched::time now_{};
  std::deque<flight> flying_;
  std::vector<sched::request_id> open_;
  std::uint64_t added_ = 0, ended_ = 0, landed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const auto requests = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000ULL;
  try {
    for (const auto& policy : sched::policy_names()) {
      const auto begin = std::chrono::steady_clock::now();
      soak s{policy, 17};
      s.run(requests / sched::policy_names().size());
      const auto c = s.count();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      std::printf(
          "%-8s %llu requests, %llu steps, %llu preemptions, %llu blocks out, %llu in, %llu prompt tokens "
          "from "
          "the cache: all ended, all blocks back (%.0f s)\n",
          policy.c_str(), static_cast<unsigned long long>(c.finished),
          static_cast<unsigned long long>(c.steps), static_cast<unsigned long long>(c.preemptions),
          static_cast<unsigned long long>(c.blocks_out), static_cast<unsigned long long>(c.blocks_in),
          static_cast<unsigned long long>(c.prefix_hit_tokens), took.count());
      std::fflush(stdout);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "soak_scheduler: %s\n", e.what());
    return 1;
  }
  return 0;
}
