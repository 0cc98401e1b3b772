#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/router.hpp"
#include "scheduler/scheduler.hpp"

namespace fastserve::scheduler {

/// Several pipelines of the same model, each with a scheduler of its own, and one set of requests over them.
/// A request runs in one pipeline at a time. When that one is lost the request moves to another, at once and
/// with the tokens that it has; one that fits into no other waits for its pipeline to come back. The choices
/// of a request stay together.
///
/// With one pipeline it is that pipeline's scheduler, no more.
///
/// A plain object: not thread-safe, no clock.
class replica_set {
 public:
  /// The limits of each pipeline; one without KV blocks does not stand yet.
  explicit replica_set(const std::vector<limits>& pipelines);

  std::size_t size() const { return pipelines_.size(); }
  bool stands(std::size_t pipeline) const { return pipelines_[pipeline].stands; }

  /// See scheduler::add. The request goes to the pipeline that the router names.
  std::string add(request what, time now);
  /// See scheduler; of one pipeline. A pipeline that does not stand has nothing to do.
  std::optional<micro_batch> schedule(std::size_t pipeline, time now);
  std::optional<move_order> take_moves(std::size_t pipeline) { return own(pipeline).take_moves(); }
  std::vector<progress> complete(std::size_t pipeline, step_id step, std::span<const drawn_token> drawn,
                                 time now);
  progress give(request_id id, std::int32_t token, time now);
  std::optional<progress> finish(request_id id, finish_reason as, time now);
  std::span<const std::int32_t> tokens(request_id id) const;
  /// Where an unfinished request is.
  std::optional<std::size_t> pipeline_of(request_id id) const;

  /// The pipeline stands still: steps in flight in it are lost. The result of this and the next two: requests
  /// that have ended by it, see scheduler::restart.
  std::vector<progress> lose(std::size_t pipeline, time now);
  /// It stands (again), with other stages and memory. What waits is dealt out anew.
  std::vector<progress> restore(std::size_t pipeline, std::int32_t stages, std::int32_t kv_blocks, time now,
                                const swap_limits& swap = {}, bool ahead = false);
  /// It does not come back. There must be another one, standing or not.
  std::vector<progress> give_up(std::size_t pipeline, time now);

  bool idle() const;
  /// Over all pipelines; KV blocks are those of pipelines that stand.
  counters count() const;
  const scheduler& of(std::size_t pipeline) const { return *pipelines_[pipeline].own; }
  double pace(std::size_t pipeline) const { return router_.pace(pipeline); }

  /// Throws std::logic_error when something does not add up.
  void check_integrity() const;

 private:
  struct member {
    std::unique_ptr<scheduler> own;
    bool stands = false;
    bool gone = false;
    bool changed = true;  // something has been done with it since its offer was made
  };
  struct place {
    std::size_t pipeline = 0;
    request_id first{};  // of its choices: they stay together
    std::int32_t asked = 0;
  };

  scheduler& own(std::size_t pipeline) {
    if (!std::exchange(pipelines_[pipeline].changed, true)) changed_.push_back(pipeline);
    return *pipelines_[pipeline].own;
  }
  request_size size_of(const request& what, std::size_t answered) const;
  std::ptrdiff_t choose(const request& what, std::size_t answered, std::span<const std::int32_t> text);
  void renew_offers();
  void stand(std::size_t pipeline, bool stands, bool gone);
  void deal(std::vector<moved_request> open, std::vector<progress>& ended, time now,
            std::optional<std::size_t> home = std::nullopt);
  void keep(std::size_t pipeline, const request& what, request_id first);
  void learn();
  void forget(std::span<const progress> of);

  std::unique_ptr<first_blocks> first_blocks_;  // of all prefix caches; its place stays
  std::vector<member> pipelines_;
  router router_;
  std::vector<pipeline_offer> offers_;  // [pipelines], to a request of which nothing is cached
  std::size_t standing_ = 0;
  std::vector<std::size_t> changed_;  // whose offers have to be made anew
  std::unordered_map<request_id, place> places_;
  std::uint64_t completed_ = 0;
};

}  // namespace fastserve::scheduler
