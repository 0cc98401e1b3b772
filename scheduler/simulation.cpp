#include "scheduler/simulation.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <queue>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

namespace fastserve::scheduler {

namespace {

/// One replica of the model: a scheduler and stages that take their time.
class pipeline {
 public:
  pipeline(const limits& within, const simulated_cluster& cluster)
      : scheduler_{within}, cluster_{cluster}, free_at_(static_cast<std::size_t>(within.stages), time{}) {}

  std::string add(request what, time now) { return scheduler_.add(std::move(what), now); }
  /// When the oldest step in flight is back; nothing when there is none.
  std::optional<time> next() const {
    return flying_.empty() ? std::nullopt : std::optional{flying_.front().back_at};
  }
  void start(time now) {
    while (true) {
      const auto batch = scheduler_.schedule(now);
      if (const auto moves = scheduler_.take_moves()) copy(*moves, now);
      if (!batch) return;
      fly(*batch, now);
    }
  }
  std::vector<progress> land(time now) {
    const auto f = std::move(flying_.front());
    flying_.pop_front();
    return scheduler_.complete(f.step, f.drawn, now);
  }
  const scheduler& of() const { return scheduler_; }
  double busy_ns() const { return busy_ns_; }
  double copying_ns() const { return copying_ns_; }

 private:
  struct flight {
    step_id step{};
    time back_at{};
    std::vector<drawn_token> drawn;
  };

  // Every stage makes the same copies, one after the other, beside its steps.
  void copy(const move_order& order, time now) {
    const auto& swap = scheduler_.bounds().swap;
    auto at = std::max(copies_done_, now);
    for (const auto& m : order.moves) {
      const bool disk = m.kind != move_kind::copy && m.other >= swap.memory_slots;
      const auto spent = disk ? swap.disk_block : swap.memory_block;
      at += spent;
      copying_ns_ += static_cast<double>(spent.count());
    }
    copies_done_ = at;
    done_at_.emplace_back(order.ticket, at);
  }

  // When the moves up to this ticket are done. Those long done are forgotten.
  time moved(std::uint64_t ticket, time now) {
    while (!done_at_.empty() && done_at_.front().second <= now) done_at_.pop_front();
    time at{};
    for (const auto& [number, done] : done_at_) {
      if (number > ticket) break;
      at = done;
    }
    return at;
  }

  // A stage takes the step when it has it, has finished the one before and has the KV that it needs.
  void fly(const micro_batch& batch, time now) {
    step_size size;
    flight f;
    for (const auto& e : batch.entries) {
      const auto rows = static_cast<std::int64_t>(e.tokens.size());
      size.rows += rows;
      size.context += rows * e.first_position + rows * (rows + 1) / 2;
      if (e.samples) f.drawn.push_back({e.id, 1});
    }
    size.draws = static_cast<std::int64_t>(f.drawn.size());
    const auto compute = cluster_.stage.compute(size);
    const auto draw = cluster_.stage.draw(size);
    const auto ready = moved(batch.ticket, now);
    auto at = now;
    for (auto& free : free_at_) {
      at = std::max({at + cluster_.link, free, ready}) + compute;
      if (&free == &free_at_.back()) at += draw;
      free = at;
    }
    busy_ns_ += static_cast<double>(compute.count()) * static_cast<double>(free_at_.size()) +
                static_cast<double>(draw.count());
    f.step = batch.step;
    f.back_at = at + cluster_.link;
    flying_.push_back(std::move(f));
  }

  scheduler scheduler_;
  const simulated_cluster& cluster_;
  std::deque<flight> flying_;
  std::vector<time> free_at_;  // [stages]
  time copies_done_{};
  std::deque<std::pair<std::uint64_t, time>> done_at_;  // tickets of moves and when they are done, in order
  double busy_ns_ = 0;
  double copying_ns_ = 0;
};

void add(counters& sum, const counters& c) {
  sum.waiting += c.waiting;
  sum.running += c.running;
  sum.in_flight_steps += c.in_flight_steps;
  sum.kv_blocks += c.kv_blocks;
  sum.kv_blocks_free += c.kv_blocks_free;
  sum.steps += c.steps;
  sum.prompt_tokens += c.prompt_tokens;
  sum.completion_tokens += c.completion_tokens;
  sum.finished += c.finished;
  sum.preemptions += c.preemptions;
  sum.prefix_hit_tokens += c.prefix_hit_tokens;
  sum.blocks_out += c.blocks_out;
  sum.blocks_in += c.blocks_in;
  sum.blocks_copied += c.blocks_copied;
}

// The events of all replicas in order of time.
class run {
 public:
  run(const limits& within, const simulated_cluster& cluster, simulation_sink& sink)
      : sink_{sink},
        open_(static_cast<std::size_t>(cluster.replicas), 0),
        expected_(static_cast<std::size_t>(cluster.replicas), false) {
    for (std::size_t i = 0; i < open_.size(); ++i) {
      replicas_.push_back(std::make_unique<pipeline>(within, cluster));
      by_load_.emplace(0, i);
    }
  }

  simulation_result operator()(const std::function<std::optional<arrival>()>& next) {
    auto coming = next();
    time now{};
    while (coming || !events_.empty()) {
      // A step that is back frees its stage before a request of the same moment comes.
      if (!events_.empty() && (!coming || events_.top().first <= coming->at)) {
        const auto [at, i] = events_.top();
        events_.pop();
        now = at;
        land(i, now);
        start(i, now);
        continue;
      }
      if (coming->at < now) throw std::logic_error("requests do not come in the order of their times");
      now = coming->at;
      std::set<std::size_t> joined;
      // Those of the same moment are there before a step is formed.
      for (; coming && coming->at == now; coming = next()) {
        const auto i = by_load_.begin()->second;
        const auto id = coming->what.id;
        if (const auto why = replicas_[i]->add(std::move(coming->what), now); !why.empty()) {
          sink_.on_refused(id, why);
          continue;
        }
        reload(i, 1);
        joined.insert(i);
      }
      for (const auto i : joined) start(i, now);
    }
    return result();
  }

 private:
  using event = std::pair<time, std::size_t>;

  void start(std::size_t i, time now) {
    auto& replica = *replicas_[i];
    replica.start(now);
    const auto at = replica.next();
    if (!at || expected_[i]) return;
    events_.emplace(*at, i);
    expected_[i] = true;
  }

  void land(std::size_t i, time now) {
    last_ = now;
    expected_[i] = false;
    for (const auto& p : replicas_[i]->land(now)) {
      if (p.token >= 0) sink_.on_token(p.id, now);
      if (!p.finished) continue;
      reload(i, -1);
      sink_.on_done(p);
    }
  }

  void reload(std::size_t i, std::int64_t by) {
    by_load_.erase({open_[i], i});
    open_[i] += by;
    by_load_.emplace(open_[i], i);
  }

  simulation_result result() const {
    simulation_result out;
    out.end = last_;
    double busy_ns = 0;
    double copying_ns = 0;
    double stages = 0;
    for (const auto& r : replicas_) {
      if (!r->of().idle()) throw std::logic_error("a scheduler stands still with requests left");
      add(out.totals, r->of().count());
      busy_ns += r->busy_ns();
      copying_ns += r->copying_ns();
      stages += r->of().bounds().stages;
    }
    if (last_.count() == 0) return out;
    const auto end_ns = static_cast<double>(last_.count());
    out.busy = busy_ns / (end_ns * stages);
    out.copying = copying_ns / (end_ns * static_cast<double>(replicas_.size()));
    return out;
  }

  simulation_sink& sink_;
  std::vector<std::unique_ptr<pipeline>> replicas_;
  std::vector<std::int64_t> open_;                                         // [replicas], unfinished requests
  std::set<std::pair<std::int64_t, std::size_t>> by_load_;                 // the same, least first
  std::priority_queue<event, std::vector<event>, std::greater<>> events_;  // a replica's oldest step is back
  std::vector<bool> expected_;                                             // [replicas], has its event
  time last_{};
};

}  // namespace

simulation_result simulate(const limits& within, const simulated_cluster& cluster,
                           const std::function<std::optional<arrival>()>& next, simulation_sink& sink) {
  return run{within, cluster, sink}(next);
}

}  // namespace fastserve::scheduler
