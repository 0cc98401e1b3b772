#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/cost_model.hpp"
#include "scheduler/request.hpp"

namespace fastserve::scheduler {

/// A request as a policy sees it. Lives in the scheduler's sequence; the last group belongs to the policy.
struct policy_item {
  request_id id{};
  std::int32_t priority = 0;  ///< the user's; larger goes first
  time arrived{};
  std::int32_t prefill_tokens = 0;  ///< still to be computed before the next token
  std::int32_t cached_tokens = 0;   ///< of the prompt, in front of those, that were in memory on its arrival
  std::int32_t remaining_tokens = 0;  ///< of the answer, at most; only an oracle may use the true number
  std::int32_t total_tokens = 0;      ///< prompt, for the service estimate
  bool started = false;               ///< has run
  bool resident = false;              ///< has KV memory; so it has run

  std::uint64_t ticket = 0;         ///< order of joining (its queue)
  std::int32_t level = 0;           ///< queue
  std::int32_t promoted_from = -1;  ///< the queue it starved in and has not come back to; -1: none
  time used{};                      ///< of the level's quantum
  time waiting_since{};
  time left{};  ///< of processing, as estimated on joining
  std::int32_t bucket = 0;
};

/// Which of the requests that could run does. Holds the runnable ones only: the scheduler pops the most
/// urgent, gives back what it could not place, and pushes again what has run.
class policy {
 public:
  policy() = default;
  policy(const policy&) = delete;
  policy& operator=(const policy&) = delete;
  virtual ~policy() = default;

  virtual std::string_view name() const = 0;
  /// A request becomes runnable: new, or back from a step.
  virtual void push(policy_item& item, time now) = 0;
  /// The most urgent one, taken out; null when there is none.
  virtual policy_item* pop(time now) = 0;
  /// The most urgent of those that are resident, taken out; null when there is none.
  virtual policy_item* pop_resident() = 0;
  /// Puts back what a pop gave, as if it had not been popped.
  virtual void unpop(policy_item& item) = 0;
  /// Takes one out that is in.
  virtual void remove(policy_item& item) = 0;
  /// A request, at the moment out, has run for `spent`.
  virtual void ran(policy_item& item, time spent) = 0;
  /// A request, at the moment out, has ended.
  virtual void ended(policy_item&) {}
  /// Whether `a` should have memory rather than `b` (neither needs to be in).
  virtual bool before(const policy_item& a, const policy_item& b, time now) const = 0;
  virtual std::size_t size() const = 0;

  // What the time of a request's next step is estimated from (swap_choice.hpp).

  /// Until the policy puts the request in front by itself, if it ever does.
  virtual time until_promotion(const policy_item&, time) const { return time::max(); }
  /// Service that a request has a right to before it gets to the queue where this one is.
  virtual time service_before(const policy_item&) const { return {}; }
};

/// How policies are set.
struct policy_options {
  std::string name = "fcfs";  ///< fcfs, sj-mlfq, hrrn or srpt
  time starvation =
      std::chrono::milliseconds{300};  ///< sj-mlfq: a request that waits this long may be promoted
};

/// Known names, in the order of the help.
std::vector<std::string> policy_names();

/// fcfs: first come, first served; earlier requests keep running.
/// sj-mlfq: skip-join multi-level feedback queue (FastServe, arXiv 2305.05920, section 4.1). Of `slots`, the
/// sequences that run at once, those promoted because they starved take at most one in sixteen.
/// hrrn: highest response ratio next, not preemptive (Brinch Hansen, 1971).
/// srpt: shortest remaining processing time; an oracle, it trusts remaining_tokens.
/// `costs` must outlive the policy. Throws std::invalid_argument for an unknown name, listing those known.
std::unique_ptr<policy> make_policy(const policy_options& options, const cost_model& costs,
                                    std::int32_t slots);

}  // namespace fastserve::scheduler
