#include "actors/coordinator.hpp"

#include <algorithm>
#include <utility>

#include "actors/clock.hpp"
#include "mpi/process_mark.hpp"

namespace fastserve::actors {

namespace {

using clock = std::chrono::steady_clock;

// So many epochs for each rank the last leader may have begun without this rank hearing of it: each attempt
// to put all pipelines up takes one for each of them.
constexpr int unheard_attempts = 4;

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

void coordinator::watch() { watch({}); }

void coordinator::watch(const succeeded& before) {
  for (const auto rank : before.lost) host_.lose(rank);
  {
    const std::lock_guard lock{mutex_};
    gone_ = before.lost;
  }
  if (!before.lost.empty())
    epoch_ = before.epoch + static_cast<std::uint32_t>(unheard_attempts * host_.environment().size());
  monitor_setup setup;
  setup.dead = before.lost;
  // They send their heartbeats here once they have heard of this leader.
  if (!before.lost.empty()) setup.grace = 2 * options_.deadline;
  setup.options = options_;
  setup.rank = host_.context().profile.rank;
  setup.nodes = host_.nodes();
  setup.epoch = [this] { return epoch_.load(); };
  setup.stalled_for = host_.context().stalled_for;
  setup.datagrams = host_.context().datagrams.get();
  setup.lost = [this](int rank, std::chrono::nanoseconds silence) { on_lost(rank, silence); };
  setup.most_heard = [this](liveness::time since) {
    const std::lock_guard lock{mutex_};
    footing_.most_heard = since;
  };
  setup.shares = [this] { return shares(); };
  setup.slow = [this](int rank, double times) { on_slow(rank, times); };
  const auto monitor = mpi::spawn_detached<monitor_actor, monitor_state>(host_.system(), std::move(setup));
  host_.publish(role::monitor, monitor);
  host_.end_later(monitor);
  for (int r = 0; r < host_.environment().size(); ++r)
    for (const auto lost : before.lost)
      if (!before.lost.contains(r)) mpi::anon_send(host_.resolve<node_actor>(r, role::node), rank_lost{lost});
}

leader_footing coordinator::footing() const {
  const std::lock_guard lock{mutex_};
  auto out = footing_;
  for (int r = host_.environment().size() - 1; r > host_.context().profile.rank; --r)
    if (!gone_.contains(r)) out.standby = r;
  return out;
}

engine_layout coordinator::start() {
  // Until they stand and nobody died under them.
  for (;;) {
    std::set<int> gone;
    {
      const std::lock_guard lock{mutex_};
      gone = gone_;
    }
    auto first = bring_up_->begin([this] { return ++epoch_; }, gone, {});
    const std::lock_guard lock{mutex_};
    if (gone != gone_) continue;
    if (!first.error.empty()) return first;
    seen_ = gone;
    layout_ = first;
    thread_ = std::thread{[this] { serve(); }};
    return first;
  }
}

engine_layout coordinator::layout() const {
  const std::lock_guard lock{mutex_};
  return layout_;
}

void coordinator::attach(scheduler_actor to, const engine_layout& known) {
  const std::lock_guard lock{mutex_};
  scheduler_ = std::move(to);
  for (std::size_t i = 0; i < layout_.pipelines.size(); ++i) {
    const auto& now = layout_.pipelines[i];
    const auto& then = known.pipelines.at(i);
    if (now.epoch != then.epoch || now.stands != then.stands || now.gone != then.gone || !end_.empty())
      announce(i);
  }
}

void coordinator::announce(std::size_t pipeline) {
  if (scheduler_) mpi::anon_send(scheduler_, pipeline_change{pipeline, layout_.pipelines[pipeline], end_});
}

std::optional<std::size_t> coordinator::pipeline_of(int rank) const {
  for (std::size_t i = 0; i < layout_.pipelines.size(); ++i) {
    const auto& ranks = layout_.pipelines[i].stage_ranks;
    if (std::find(ranks.begin(), ranks.end(), rank) != ranks.end()) return i;
  }
  return std::nullopt;
}

std::optional<std::size_t> coordinator::lost_pipeline() const {
  for (std::size_t i = 0; i < layout_.pipelines.size(); ++i)
    if (!layout_.pipelines[i].stands && !layout_.pipelines[i].gone) return i;
  return std::nullopt;
}

bool coordinator::any_stands() const {
  return std::any_of(layout_.pipelines.begin(), layout_.pipelines.end(),
                     [](const auto& p) { return p.stands; });
}

// Its requests go to the others at once, before it is put up again.
void coordinator::lose(std::size_t pipeline) {
  auto& p = layout_.pipelines[pipeline];
  if (!std::exchange(p.stands, false)) return;
  announce(pipeline);
}

// Only where there are several.
std::string coordinator::name_of(std::size_t pipeline) const {
  return layout_.pipelines.size() == 1 ? "" : "pipeline " + std::to_string(pipeline) + ": ";
}

std::vector<rank_share> coordinator::shares() const {
  std::vector<rank_share> out(static_cast<std::size_t>(host_.environment().size()));
  const std::lock_guard lock{mutex_};
  for (const auto& row : layout_.rows)
    out[static_cast<std::size_t>(row.profile.rank)] = {row.share, row.pipeline, row.epoch};
  return out;
}

void coordinator::stop() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
    scheduler_ = nullptr;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  // An actor ends with its last handle.
  bring_up_.reset();
  const std::lock_guard lock{mutex_};
  for (auto& p : layout_.pipelines) {
    p.executors.clear();
    p.caches.clear();
  }
}

// On the monitor's thread.
void coordinator::on_lost(int rank, std::chrono::nanoseconds silence) {
  std::vector<int> left;
  {
    const std::lock_guard lock{mutex_};
    gone_.insert(rank);
    if (!mpi::process_is_gone(host_.context().processes.at(static_cast<std::size_t>(rank))))
      footing_.sight_lost_at = now();
    if (const auto p = pipeline_of(rank)) lose(*p);
    for (int r = 0; r < host_.environment().size(); ++r)
      if (!gone_.contains(r)) left.push_back(r);
  }
  // Fails what the thread may be waiting for; it must know by then that the rank is gone.
  host_.lose(rank);
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
  if (replacing_ || lost_pipeline() || seen_ != united(gone_, emptied_))
    return "another pipeline is being put up; try again";
  auto emptied = emptied_;
  emptied.insert(rank);
  const auto pipeline = pipeline_of(rank);
  if (pipeline) {
    // Others may do without this pipeline.
    const auto& all = layout_.pipelines;
    const bool only = std::count_if(all.begin(), all.end(), [](const auto& p) { return p.stands; }) == 1;
    if (auto wrong = only ? bring_up_->objection(*pipeline, gone_, emptied) : ""; !wrong.empty())
      return "rank " + std::to_string(rank) + " cannot be emptied: " + wrong;
  }
  emptied_ = std::move(emptied);
  if (pipeline) lose(*pipeline);
  changed_.notify_all();
  return {};
}

void coordinator::serve() {
  for (;;) {
    std::optional<std::size_t> lost;
    {
      std::unique_lock lock{mutex_};
      changed_.wait(lock, [&] { return stopping_ || lost_pipeline() || seen_ != united(gone_, emptied_); });
      if (stopping_) return;
      lost = lost_pipeline();
      if (!lost) {  // those without layers are not missed
        seen_ = united(gone_, emptied_);
        take_rows({});
        continue;
      }
      replacing_ = true;
    }
    replace(*lost);
    const std::lock_guard lock{mutex_};
    replacing_ = false;
  }
}

// The rows of ranks whose place is another one now, and those of the dead go.
void coordinator::take_rows(const std::vector<rank_row>& rows) {
  auto& all = layout_.rows;
  std::erase_if(all, [&](const auto& old) {
    return gone_.contains(old.profile.rank) || std::any_of(rows.begin(), rows.end(), [&](const auto& r) {
             return r.profile.rank == old.profile.rank;
           });
  });
  for (const auto& r : rows)
    if (!gone_.contains(r.profile.rank)) all.push_back(r);
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a.profile.rank < b.profile.rank; });
}

void coordinator::replace(std::size_t pipeline) {
  const auto begin = clock::now();
  for (;;) {
    std::set<int> gone;
    std::set<int> emptied;
    bool last = false;
    {
      const std::lock_guard lock{mutex_};
      if (stopping_) return;
      gone = gone_;
      emptied = emptied_;
      last = !any_stands();
    }
    auto next = bring_up_->rebuild(pipeline, ++epoch_, gone, emptied, last);
    std::unique_lock lock{mutex_};
    if (stopping_) return;
    const auto& ranks = next.pipeline.stage_ranks;
    const bool died = std::any_of(ranks.begin(), ranks.end(), [this](int r) { return gone_.contains(r); });
    if (died || (!next.error.empty() && gone != gone_)) continue;
    seen_ = united(gone, emptied);
    if (!next.error.empty()) {
      if (!give_up(pipeline, next.error)) return;
      lock.unlock();  // weights may be loaded
      const auto rows = bring_up_->dissolve(pipeline, ++epoch_, gone, emptied);
      lock.lock();
      take_rows(rows);
      return;
    }
    layout_.pipelines[pipeline] = std::move(next.pipeline);
    take_rows(next.rows);
    const auto& p = layout_.pipelines[pipeline];
    const auto first = std::find_if(layout_.pipelines.begin(), layout_.pipelines.end(),
                                    [](const auto& any) { return any.stands; });
    layout_.limits = first->limits;
    announce(pipeline);
    say_(name_of(pipeline) + "epoch " + std::to_string(p.epoch) + " after " +
         milliseconds(clock::now() - begin) + ": " + std::to_string(p.limits.stages) +
         (p.limits.stages == 1 ? " stage on " : " stages on ") + list_of(p.stage_ranks));
    return;
  }
}

// It cannot be put up. Its ranks that are left are spares for the others from now on. False when there are
// none.
bool coordinator::give_up(std::size_t pipeline, const std::string& why) {
  auto& p = layout_.pipelines[pipeline];
  p.gone = true;
  p.stage_ranks.clear();
  p.executors.clear();
  p.caches.clear();
  const bool last = !any_stands() && !lost_pipeline();
  if (last) {
    end_ = "no pipeline is left: " + why;
    stopping_ = true;
  }
  announce(pipeline);
  if (last) return false;
  say_(name_of(pipeline) + "given up: " + why);
  return true;
}

}  // namespace fastserve::actors
