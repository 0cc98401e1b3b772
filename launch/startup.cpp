#include "launch/startup.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "actors/bring_up.hpp"
#include "launch/output.hpp"
#include "launch/progress_bar.hpp"
#include "launch/startup_table.hpp"
#include "launch/status_line.hpp"
#include "launch/survival.hpp"
#include "launch/terminal.hpp"
#include "launch/terminal_probe.hpp"
#include "launch/units.hpp"

namespace fastserve::launch {

namespace {

using clock = std::chrono::steady_clock;

// All ranks' loading as one bar. Reports come on an actor's thread.
class loading {
 public:
  /// `ranks`: those that will load something. The bar appears once all of them have said how much.
  loading(bool shown, int columns, std::size_t ranks)
      : shown_{shown}, columns_{columns}, ranks_{ranks}, start_{clock::now()} {}

  void report(const actors::load_progress& p) {
    const std::lock_guard lock{mutex_};
    done_[p.rank] = p.done_bytes;
    total_[p.rank] = p.total_bytes;
    if (!shown_ || over_ || total_.size() < ranks_) return;
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    for (const auto& [rank, bytes] : done_) done += bytes;
    for (const auto& [rank, bytes] : total_) total += bytes;
    if (!bar_) bar_.emplace("loading weights", total, columns_, start_);
    status_line::draw(bar_->update(done, clock::now()));
  }
  void end() {
    const std::lock_guard lock{mutex_};
    over_ = true;
    if (bar_) status_line::clear();
  }

 private:
  std::mutex mutex_;
  bool shown_;
  bool over_ = false;
  int columns_;
  std::size_t ranks_;
  clock::time_point start_;
  std::map<int, std::uint64_t> done_;
  std::map<int, std::uint64_t> total_;
  std::optional<progress_bar> bar_;
};

std::string table_of(const actors::engine_layout& layout) {
  std::vector<rank_row> rows;
  for (const auto& r : layout.rows) {
    rank_row row;
    row.rank = r.profile.rank;
    row.pipeline = r.pipeline;
    row.host = r.profile.host;
    row.device = r.profile.device;
    row.first_layer = r.first_layer;
    row.layers = r.last_layer - r.first_layer;
    row.embeds = row.layers > 0 && r.first_layer == 0;
    row.samples = row.layers > 0 && r.next_rank < 0;
    row.weight_bytes = r.weight_bytes;
    if (r.pipeline >= 0)
      row.kv_tokens = std::int64_t{layout.pipelines[static_cast<std::size_t>(r.pipeline)].limits.kv_blocks} *
                      scheduler::block_tokens;
    row.channel = r.channel;
    rows.push_back(std::move(row));
  }
  return format_startup_table(rows);
}

/// How fast weights came: all bytes of files over the time of the slowest rank, as ranks read beside each
/// other.
std::string reading_text(const actors::engine_layout& layout) {
  std::uint64_t bytes = 0;
  std::uint64_t cached = 0;
  std::int64_t longest_ns = 0;
  for (const auto& r : layout.rows) {
    bytes += r.read_bytes;
    cached += r.cached_bytes;
    longest_ns = std::max(longest_ns, r.load_ns);
  }
  if (bytes == 0 || longest_ns == 0) return {};
  auto out = ": " + format_bytes(bytes) + " read and packed at " +
             format_measure(static_cast<double>(bytes) / static_cast<double>(longest_ns)) + " GB/s";
  if (cached > 0)
    out += cached == bytes ? ", from the pack cache"
                           : ", " + format_bytes(cached) + " of it from the pack cache";
  return out;
}

// Wishes that the engine could not grant in full.
void say_what_was_cut(const engine& e, const options& settings) {
  const auto layout = e.layout();
  const auto most = e.architecture().max_positions;
  if (settings.engine.max_context > most)
    spdlog::info("--max-context {}: the model's own limit of {} holds", settings.engine.max_context,
                 counted(most, "token"));
  const auto room = std::int64_t{layout.limits.kv_blocks} * scheduler::block_tokens;
  if (settings.kv_cache.kv_tokens > room)
    spdlog::info("--kv-tokens {}: there is memory for {}", settings.kv_cache.kv_tokens,
                 counted(room, "token"));
  const auto spares = std::count_if(layout.rows.begin(), layout.rows.end(),
                                    [](const auto& r) { return r.first_layer == r.last_layer; });
  if (settings.failover.spare_ranks > spares)
    spdlog::info("--spare-ranks {}: of {} {} kept as spares", settings.failover.spare_ranks,
                 counted(static_cast<std::int64_t>(layout.rows.size()), "rank"),
                 spares == 0 ? "none can be" : std::to_string(spares) + (spares == 1 ? " is" : " are"));
}

}  // namespace

bool start_engine(engine& e, const options& settings) {
  const auto facts = find_terminal();
  const auto columns = facts.error_is_terminal ? size_of_terminal(STDERR_FILENO).columns : 0;
  // Outlives the observer, which ends with the engine.
  const auto bar = std::make_shared<loading>(
      facts.error_is_terminal && facts.mode != terminal_facts::style::plain, columns, e.loading_ranks());
  const auto begin = clock::now();
  const auto error = e.bring_up([bar](const actors::load_progress& p) { bar->report(p); });
  bar->end();
  if (!error.empty()) {
    std::fprintf(stderr, "fastserve: %s\n", error.c_str());
    return false;
  }
  if (spdlog::should_log(spdlog::level::info)) {
    std::uint64_t bytes = 0;
    for (const auto& r : e.layout().rows) bytes += r.weight_bytes;
    std::fputs(table_of(e.layout()).c_str(), stderr);
    if (const auto& shape = e.layout().shape; !shape.empty()) spdlog::info("{}", shape);
    const auto seconds = std::chrono::duration<double>(clock::now() - begin).count();
    const auto flag = e.layout().rows.size() > 1 ? missing_launcher_flag() : "";
    if (!flag.empty())
      spdlog::warn("this job ends when a rank dies: it was started without {}", flag);
    else if (e.ends_with_neighbours())
      spdlog::warn(
          "this job ends when a rank dies that shares its node with another, for Slurm's PMIx plugin sees to "
          "that, and there is no libpmix.so.2 to leave it by: start it with mpirun --enable-recovery in the "
          "allocation");
    spdlog::info("{} of weights ready in {} s{}", format_bytes(bytes), format_measure(seconds),
                 reading_text(e.layout()));
    say_what_was_cut(e, settings);
    if (e.layout().limits.ahead) spdlog::info("steps begin before the tokens of those before are known");
  }
  return true;
}

std::int32_t context_of(const engine& e, const options& settings) {
  const auto most = e.architecture().max_positions;
  return settings.engine.max_context > 0 ? std::min(settings.engine.max_context, most) : most;
}

int run_with_engine(mpi::environment& env, const options& settings, const std::function<int(engine&)>& work,
                    const std::function<void(const engine&)>& check) {
  engine e{env, settings};
  if (!env.leader()) return e.follow();
  int code = 1;
  try {
    if (check) check(e);
    if (start_engine(e, settings)) code = work(e);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fastserve: %s\n", error.what());
  }
  return e.finish(code_of_output(code));
}

}  // namespace fastserve::launch
