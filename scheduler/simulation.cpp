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

/// The stages of a pipeline, which take their time.
class pipeline {
 public:
  pipeline(const limits& within, const simulated_cluster& cluster)
      : cluster_{cluster}, swap_{within.swap}, free_at_(static_cast<std::size_t>(within.stages), time{}) {}

  /// When the oldest step in flight is back; nothing when there is none.
  std::optional<time> next() const {
    return flying_.empty() ? std::nullopt : std::optional{flying_.front().back_at};
  }
  void start(replica_set& all, std::size_t own, time now) {
    while (true) {
      const auto batch = all.schedule(own, now);
      if (const auto moves = all.take_moves(own)) copy(*moves, now);
      if (!batch) return;
      fly(*batch, now);
    }
  }
  std::vector<progress> land(replica_set& all, std::size_t own, time now) {
    const auto f = std::move(flying_.front());
    flying_.pop_front();
    return all.complete(own, f.step, f.drawn, now);
  }
  double stages() const { return static_cast<double>(free_at_.size()); }
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
    auto at = std::max(copies_done_, now);
    for (const auto& m : order.moves) {
      const bool disk = m.kind != move_kind::copy && m.other >= swap_.memory_slots;
      const auto spent = disk ? swap_.disk_block : swap_.memory_block;
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
    f.drawn.reserve(batch.entries.size());
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

  const simulated_cluster& cluster_;
  swap_limits swap_;
  std::deque<flight> flying_;
  std::vector<time> free_at_;  // [stages]
  time copies_done_{};
  std::deque<std::pair<std::uint64_t, time>> done_at_;  // tickets of moves and when they are done, in order
  double busy_ns_ = 0;
  double copying_ns_ = 0;
};

// The events of all replicas in order of time.
class run {
 public:
  run(const limits& within, const simulated_cluster& cluster, simulation_sink& sink)
      : sink_{sink},
        set_{std::vector<limits>(static_cast<std::size_t>(cluster.replicas), within)},
        replicas_(set_.size(), pipeline{within, cluster}),
        expected_(set_.size(), false) {}

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
        const auto id = coming->what.id;
        if (const auto why = set_.add(std::move(coming->what), now); !why.empty())
          sink_.on_refused(id, why);
        else
          joined.insert(set_.pipeline_of(id).value());
      }
      for (const auto i : joined) start(i, now);
    }
    return result();
  }

 private:
  using event = std::pair<time, std::size_t>;

  void start(std::size_t i, time now) {
    auto& replica = replicas_[i];
    replica.start(set_, i, now);
    const auto at = replica.next();
    if (!at || expected_[i]) return;
    events_.emplace(*at, i);
    expected_[i] = true;
  }

  void land(std::size_t i, time now) {
    last_ = now;
    expected_[i] = false;
    for (const auto& p : replicas_[i].land(set_, i, now)) {
      if (p.token >= 0) sink_.on_token(p.id, now);
      if (p.finished) sink_.on_done(p);
    }
  }

  simulation_result result() const {
    simulation_result out;
    if (!set_.idle()) throw std::logic_error("a scheduler stands still with requests left");
    out.end = last_;
    out.totals = set_.count();
    double busy_ns = 0;
    double copying_ns = 0;
    double stages = 0;
    for (const auto& r : replicas_) {
      busy_ns += r.busy_ns();
      copying_ns += r.copying_ns();
      stages += r.stages();
    }
    if (last_.count() == 0) return out;
    const auto end_ns = static_cast<double>(last_.count());
    out.busy = busy_ns / (end_ns * stages);
    out.copying = copying_ns / (end_ns * static_cast<double>(replicas_.size()));
    return out;
  }

  simulation_sink& sink_;
  replica_set set_;
  std::vector<pipeline> replicas_;
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
