#include "actors/coordinator.hpp"

#include <algorithm>
#include <utility>

#include "actors/monitor.hpp"

namespace fastserve::actors {

namespace {

using clock = std::chrono::steady_clock;

std::string milliseconds(std::chrono::nanoseconds t) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(t).count()) + " ms";
}

std::set<int> united(std::set<int> a, const std::set<int>& b) {
  a.insert(b.begin(), b.end());
  return a;
}

std::string list_of(const std::vector<int>& ranks) {
  std::string out;
  for (const auto r : ranks) out += (out.empty() ? "" : ", ") + std::to_string(r);
  return (ranks.size() == 1 ? "rank " : "ranks ") + out;
}

}  // namespace

coordinator::coordinator(rank_host& host, const engine_wishes& wishes, const failover_options& options,
                         std::function<void(const std::string&)> say)
    : host_{host}, options_{options}, say_{std::move(say)} {
  bring_up_.emplace(host.system(), host.context(), host.nodes(), host.executors(), host.caches(), wishes);
}

engine_layout coordinator::start() {
  monitor_setup setup;
  setup.options = options_;
  setup.rank = host_.context().profile.rank;
  setup.nodes = host_.nodes();
  setup.epoch = [this] { return epoch_.load(); };
  setup.stalled_for = host_.context().stalled_for;
  setup.lost = [this](int rank, std::chrono::nanoseconds silence) { on_lost(rank, silence); };
  setup.shares = [this, ranks = setup.nodes.size()] {
    std::vector<double> out(ranks);
    const std::lock_guard lock{mutex_};
    for (const auto& row : layout_.rows) out[static_cast<std::size_t>(row.profile.rank)] = row.share;
    return out;
  };
  setup.slow = [this](int rank, double times) { on_slow(rank, times); };
  const auto monitor = mpi::spawn_detached<monitor_actor, monitor_state>(host_.system(), std::move(setup));
  host_.publish(role::monitor, monitor);
  host_.end_later(monitor);

  auto first = put_up();
  if (!first.error.empty()) return first;
  {
    const std::lock_guard lock{mutex_};
    layout_ = first;
  }
  thread_ = std::thread{[this] { serve(); }};
  return first;
}

engine_layout coordinator::layout() const {
  const std::lock_guard lock{mutex_};
  return layout_;
}

void coordinator::attach(scheduler_actor to, std::uint32_t epoch,
                         std::function<void(const std::string&)> fail) {
  const std::lock_guard lock{mutex_};
  scheduler_ = std::move(to);
  told_ = epoch;
  fail_ = std::move(fail);
  announce();
}

// With mutex_ held.
void coordinator::announce() {
  if (!scheduler_ || told_ >= layout_.epoch) return;
  told_ = layout_.epoch;
  mpi::anon_send(scheduler_,
                 pipeline_change{layout_.epoch, layout_.limits, layout_.pipeline, layout_.caches});
}

void coordinator::stop() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
    scheduler_ = nullptr;
    fail_ = nullptr;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  // An actor ends with its last handle.
  bring_up_.reset();
  const std::lock_guard lock{mutex_};
  layout_.pipeline.clear();
  layout_.caches.clear();
}

// On the monitor's thread.
void coordinator::on_lost(int rank, std::chrono::nanoseconds silence) {
  host_.lose(rank);  // also fails what put_up() may be waiting for
  std::vector<int> left;
  {
    const std::lock_guard lock{mutex_};
    gone_.insert(rank);
    for (int r = 0; r < host_.environment().size(); ++r)
      if (!gone_.contains(r)) left.push_back(r);
  }
  for (const auto r : left) mpi::anon_send(host_.resolve<node_actor>(r, role::node), rank_lost{rank});
  say_("rank " + std::to_string(rank) + " is lost: no sign of life for " + milliseconds(silence));
  changed_.notify_all();
}

// On the monitor's thread.
void coordinator::on_slow(int rank, double times) {
  const auto text = std::to_string(times);
  bool spare = false;
  {
    const std::lock_guard lock{mutex_};
    for (const auto& row : layout_.rows)
      spare = spare || (row.first_layer == row.last_layer && !emptied_.contains(row.profile.rank) &&
                        !gone_.contains(row.profile.rank));
  }
  say_("rank " + std::to_string(rank) + " is slow: its steps take " + text.substr(0, text.find('.') + 2) +
       " times as long as its layers should, by the other ranks" +
       (spare ? "; a spare takes its place" : "; there is no spare to take its place"));
  if (spare) drain(rank);
}

std::string coordinator::drain(int rank) {
  const std::lock_guard lock{mutex_};
  if (rank < 0 || rank >= host_.environment().size())
    return "there is no rank " + std::to_string(rank) + " among " +
           std::to_string(host_.environment().size());
  if (gone_.contains(rank)) return "rank " + std::to_string(rank) + " is lost already";
  if (emptied_.contains(rank)) return "rank " + std::to_string(rank) + " is empty already";
  if (stopping_ || !bring_up_) return "the job is ending";
  if (seen_ != united(gone_, emptied_)) return "another pipeline is being put up; try again";
  auto emptied = emptied_;
  emptied.insert(rank);
  if (auto wrong = bring_up_->objection(gone_, emptied); !wrong.empty())
    return "rank " + std::to_string(rank) + " cannot be emptied: " + wrong;
  emptied_ = std::move(emptied);
  changed_.notify_all();
  return {};
}

// Until one stands that nobody died under.
engine_layout coordinator::put_up() {
  for (;;) {
    std::set<int> gone;
    std::set<int> emptied;
    {
      const std::lock_guard lock{mutex_};
      gone = gone_;
      emptied = emptied_;
    }
    auto made = bring_up_->run(++epoch_, gone, emptied);
    const std::lock_guard lock{mutex_};
    if (gone == gone_ || stopping_) {
      seen_ = united(gone, emptied);
      return made;
    }
  }
}

void coordinator::serve() {
  for (;;) {
    {
      std::unique_lock lock{mutex_};
      changed_.wait(lock, [this] { return stopping_ || seen_ != united(gone_, emptied_); });
      if (stopping_) return;
      const auto& stages = layout_.stage_ranks;
      const bool stands = std::none_of(stages.begin(), stages.end(),
                                       [this](int r) { return gone_.contains(r) || emptied_.contains(r); });
      if (stands) {  // those without layers are not missed
        seen_ = united(gone_, emptied_);
        std::erase_if(layout_.rows, [this](const auto& row) { return gone_.contains(row.profile.rank); });
        continue;
      }
    }
    replace();
  }
}

void coordinator::replace() {
  const auto begin = clock::now();
  auto next = put_up();
  const std::lock_guard lock{mutex_};
  if (stopping_) return;
  if (!next.error.empty()) {
    if (fail_) fail_("no pipeline is left: " + next.error);
    stopping_ = true;
    return;
  }
  layout_ = std::move(next);
  announce();
  say_("epoch " + std::to_string(layout_.epoch) + " after " + milliseconds(clock::now() - begin) + ": " +
       std::to_string(layout_.limits.stages) + (layout_.limits.stages == 1 ? " stage on " : " stages on ") +
       list_of(layout_.stage_ranks));
}

}  // namespace fastserve::actors
