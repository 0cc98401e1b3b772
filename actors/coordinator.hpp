#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "actors/bring_up.hpp"
#include "actors/failover_options.hpp"
#include "actors/leader_footing.hpp"
#include "actors/monitor.hpp"
#include "actors/rank_host.hpp"

namespace fastserve::actors {

/// Leader: keeps the pipelines standing while ranks come to their end. Brings the engine up, watches all
/// ranks, and puts a pipeline up again, in another epoch, whenever one of its ranks dies; the others go on
/// meanwhile, and take over its requests. The scheduler computes again what was lost.
class coordinator {
 public:
  /// `say` gets a line for the user at each loss and each new pipeline; any thread.
  coordinator(rank_host& host, const engine_wishes& wishes, const failover_options& options,
              std::function<void(const std::string& line)> say);
  coordinator(const coordinator&) = delete;
  coordinator& operator=(const coordinator&) = delete;
  ~coordinator() { stop(); }

  /// Watches the ranks from now on, and lets them hear of this leader. Once, before start().
  void watch();
  /// The same for one that took over from another: these ranks are lost, and pipelines up to `epoch` may have
  /// been put up.
  void watch(const succeeded& before);
  /// Puts the first pipelines up. Blocks. Ranks that die meanwhile are left out. Once.
  engine_layout start();
  /// What the leader's right to write hangs on. Any thread.
  leader_footing footing() const;
  /// The pipelines as they stand.
  engine_layout layout() const;
  /// From now on `to`, which was given the pipelines of `known`, is told what becomes of them. Replaces an
  /// earlier one.
  void attach(scheduler_actor to, const engine_layout& known);
  /// Empties a rank: its layers go to others, and no request is lost. It stays in the job without work, and
  /// may then be ended. Returns why that cannot be, or an empty text; it is done in the background.
  std::string drain(int rank);
  /// No pipelines are put up any more; losses are still seen, so that the end of the job waits for nobody.
  void stop();

 private:
  void on_lost(int rank, std::chrono::nanoseconds silence);
  void on_slow(int rank, double times);
  std::vector<rank_share> shares() const;
  void serve();
  void replace(std::size_t pipeline);

  // With mutex_ held.
  std::optional<std::size_t> pipeline_of(int rank) const;
  std::optional<std::size_t> lost_pipeline() const;
  bool any_stands() const;
  void lose(std::size_t pipeline);
  void announce(std::size_t pipeline);
  bool give_up(std::size_t pipeline, const std::string& why);
  void take_rows(const std::vector<rank_row>& rows);
  std::string name_of(std::size_t pipeline) const;

  rank_host& host_;
  std::optional<bring_up> bring_up_;
  failover_options options_;
  std::function<void(const std::string&)> say_;
  std::atomic<std::uint32_t> epoch_{0};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<int> gone_;
  leader_footing footing_;
  std::set<int> emptied_;  // they live, and get no layers
  std::set<int> seen_;     // of both, those that no pipeline counts on any more
  engine_layout layout_;
  scheduler_actor scheduler_;
  std::string end_;         // why no pipeline will stand any more
  bool replacing_ = false;  // the thread is at it
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fastserve::actors
