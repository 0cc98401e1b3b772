#include "scheduler/simulation.hpp"

#include <algorithm>
#include <deque>
#include <stdexcept>
#include <utility>
#include <vector>

namespace fastserve::scheduler {

namespace {

class run {
 public:
  run(const limits& within, const simulated_cluster& cluster, simulation_sink& sink)
      : scheduler_{within},
        cluster_{cluster},
        sink_{sink},
        free_at_(static_cast<std::size_t>(within.stages), time{}) {}

  simulation_result operator()(const std::function<std::optional<arrival>()>& next) {
    auto coming = next();
    time now{};
    while (coming || !flying_.empty()) {
      // A step that is back frees its stage before a request of the same moment comes.
      if (!flying_.empty() && (!coming || flying_.front().back_at <= coming->at)) {
        now = flying_.front().back_at;
        land(now);
      } else {
        if (coming->at < now) throw std::logic_error("requests do not come in the order of their times");
        now = coming->at;
        const auto id = coming->what.id;
        if (const auto why = scheduler_.add(std::move(coming->what), now); !why.empty())
          sink_.on_refused(id, why);
        coming = next();
        // Those of the same moment are there before a step is formed.
        if (coming && coming->at == now) continue;
      }
      while (auto batch = scheduler_.schedule(now)) fly(*batch, now);
    }
    if (!scheduler_.idle()) throw std::logic_error("the scheduler stands still with requests left");
    simulation_result out;
    out.end = last_;
    out.totals = scheduler_.count();
    if (last_.count() > 0)
      out.busy = busy_ns_ / (static_cast<double>(last_.count()) * static_cast<double>(free_at_.size()));
    return out;
  }

 private:
  struct flight {
    step_id step{};
    time back_at{};
    std::vector<drawn_token> drawn;
  };

  // A stage takes the step when it has it and has finished the one before.
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
    const auto stage = cluster_.stage.compute(size);
    const auto draw = cluster_.stage.draw(size);
    auto at = now;
    for (auto& free : free_at_) {
      at = std::max(at + cluster_.link, free) + stage;
      if (&free == &free_at_.back()) at += draw;
      free = at;
    }
    busy_ns_ += static_cast<double>(stage.count()) * static_cast<double>(free_at_.size()) +
                static_cast<double>(draw.count());
    f.step = batch.step;
    f.back_at = at + cluster_.link;
    flying_.push_back(std::move(f));
  }

  void land(time now) {
    const auto f = std::move(flying_.front());
    flying_.pop_front();
    last_ = now;
    for (const auto& p : scheduler_.complete(f.step, f.drawn, now)) {
      if (p.token >= 0) sink_.on_token(p.id, now);
      if (p.finished) sink_.on_done(p);
    }
  }

  scheduler scheduler_;
  const simulated_cluster& cluster_;
  simulation_sink& sink_;
  std::deque<flight> flying_;
  std::vector<time> free_at_;  // [stages]
  time last_{};
  double busy_ns_ = 0;
};

}  // namespace

simulation_result simulate(const limits& within, const simulated_cluster& cluster,
                           const std::function<std::optional<arrival>()>& next, simulation_sink& sink) {
  return run{within, cluster, sink}(next);
}

}  // namespace fastserve::scheduler
