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
#include "actors/rank_host.hpp"

namespace fastserve::actors {

/// Leader: keeps a pipeline standing while ranks come to their end. Brings the engine up, watches all ranks,
/// and puts up another pipeline of those left, an epoch later, whenever one of its ranks dies; the scheduler
/// then computes again what was lost.
class coordinator {
 public:
  /// `say` gets a line for the user at each loss and each new pipeline; any thread.
  coordinator(rank_host& host, const engine_wishes& wishes, const failover_options& options,
              std::function<void(const std::string& line)> say);
  coordinator(const coordinator&) = delete;
  coordinator& operator=(const coordinator&) = delete;
  ~coordinator() { stop(); }

  /// Puts the first pipeline up. Blocks. Ranks that die meanwhile are left out. Once.
  engine_layout start();
  /// The pipeline that stands.
  engine_layout layout() const;
  /// From now on `to`, which was given the pipeline of `epoch`, is told of others. `fail` is called when
  /// there is none any more. Replaces an earlier one.
  void attach(scheduler_actor to, std::uint32_t epoch, std::function<void(const std::string& why)> fail);
  /// Empties a rank: its layers go to others, and no request is lost. It stays in the job without work, and
  /// may then be ended. Returns why that cannot be, or an empty text; it is done in the background.
  std::string drain(int rank);
  /// No pipelines are put up any more; losses are still seen, so that the end of the job waits for nobody.
  void stop();

 private:
  void on_lost(int rank, std::chrono::nanoseconds silence);
  void on_slow(int rank, double times);
  engine_layout put_up();
  void serve();
  void replace();
  void announce();

  rank_host& host_;
  std::optional<bring_up> bring_up_;
  failover_options options_;
  std::function<void(const std::string&)> say_;
  std::atomic<std::uint32_t> epoch_{0};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<int> gone_;
  std::set<int> emptied_;  // they live, and get no layers
  std::set<int> seen_;     // of both, by the thread
  engine_layout layout_;
  scheduler_actor scheduler_;
  std::uint32_t told_ = 0;  // the scheduler's epoch
  std::function<void(const std::string&)> fail_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fastserve::actors
