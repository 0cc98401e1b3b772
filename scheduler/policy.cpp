#include "scheduler/policy.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace fastserve::scheduler {

namespace {

// A set by rank that keeps the nodes of those that have left, for those that join: most do so at every step.
template <class Rank>
class item_set {
 public:
  void insert(policy_item& item) { put(item); }
  // Mostly behind all others.
  void insert_last(policy_item& item) { put(item, items_.end()); }
  void erase(policy_item& item) { keep(items_.extract(&item)); }
  void erase_first() { keep(items_.extract(items_.begin())); }
  policy_item* first() const { return items_.empty() ? nullptr : *items_.begin(); }
  std::size_t size() const { return items_.size(); }

 private:
  using node = typename std::set<policy_item*, Rank>::node_type;
  template <class... Hint>
  void put(policy_item& item, Hint... hint) {
    if (spare_.empty()) {
      items_.insert(hint..., &item);
      return;
    }
    spare_.back().value() = &item;
    items_.insert(hint..., std::move(spare_.back()));
    spare_.pop_back();
  }
  void keep(node left) {
    if (left && spare_.size() < most_spare) spare_.push_back(std::move(left));
  }

  static constexpr std::size_t most_spare = 1024;
  std::set<policy_item*, Rank> items_;
  std::vector<node> spare_;
};

// Requests in one order that pushes alone change. The resident ones, which come and go with every step, are
// kept apart: they are few, so that their order costs the same however many wait, and the first of them is at
// hand when there is no memory for the others.
template <class Rank>
class ranked {
 public:
  void insert(policy_item& item) { set_of(item).insert(item); }
  void erase(policy_item& item) { set_of(item).erase(item); }
  policy_item* first() const {
    auto* a = resident_.first();
    auto* b = others_.first();
    return a == nullptr || (b != nullptr && Rank{}(b, a)) ? b : a;
  }
  policy_item* first_resident() const { return resident_.first(); }
  policy_item* take(policy_item* item) {
    if (item != nullptr) set_of(*item).erase_first();
    return item;
  }
  std::size_t size() const { return resident_.size() + others_.size(); }

 private:
  item_set<Rank>& set_of(const policy_item& item) { return item.resident ? resident_ : others_; }

  item_set<Rank> resident_;
  item_set<Rank> others_;
};

template <class Rank>
class ranked_policy : public policy {
 public:
  policy_item* pop(time now) override {
    refresh(now);
    return items_.take(items_.first());
  }
  policy_item* pop_resident() override { return items_.take(items_.first_resident()); }
  void push(policy_item& item, time now) override {
    join(item, now);
    items_.insert(item);
  }
  void unpop(policy_item& item) override { items_.insert(item); }
  void remove(policy_item& item) override { items_.erase(item); }
  void ran(policy_item&, time) override {}
  bool before(const policy_item& a, const policy_item& b, time) const override { return Rank{}(&a, &b); }
  std::size_t size() const override { return items_.size(); }

 protected:
  virtual void join(policy_item& item, time) {
    if (item.ticket == 0) item.ticket = next_ticket_++;
  }
  virtual void refresh(time) {}

  std::uint64_t next_ticket_ = 1;
  ranked<Rank> items_;
};

struct by_arrival {
  bool operator()(const policy_item* a, const policy_item* b) const {
    return std::tuple{-a->priority, a->arrived, a->ticket} < std::tuple{-b->priority, b->arrived, b->ticket};
  }
};

class fcfs final : public ranked_policy<by_arrival> {
 public:
  std::string_view name() const override { return "fcfs"; }
};

struct by_remaining {
  bool operator()(const policy_item* a, const policy_item* b) const {
    return std::tuple{-a->priority, a->left, a->ticket} < std::tuple{-b->priority, b->left, b->ticket};
  }
};

// A token of the answer takes a step, one of the prompt only a row of it.
class srpt final : public ranked_policy<by_remaining> {
 public:
  explicit srpt(const cost_model& costs) : costs_{costs} {}
  std::string_view name() const override { return "srpt"; }
  void push(policy_item& item, time now) override {
    estimate(item);
    ranked_policy::push(item, now);
  }
  void unpop(policy_item& item) override {
    estimate(item);
    ranked_policy::unpop(item);
  }

 private:
  void estimate(policy_item& item) const {
    const auto& c = costs_.costs();
    item.left = c.compute({item.prefill_tokens, 0, 0}) + c.decode_step() * item.remaining_tokens;
  }
  const cost_model& costs_;
};

struct by_level {
  bool operator()(const policy_item* a, const policy_item* b) const {
    return std::tuple{-a->priority, a->level, a->ticket} < std::tuple{-b->priority, b->level, b->ticket};
  }
};

// Queue i has the quantum q * 2^i, q the time of one decode step. A request joins the first queue whose
// quantum covers its prefill, so that a long prompt does not hold up short ones (section 4.1 of the paper);
// it is demoted when its quantum is used up.
//
// A request that has waited for `starvation` is promoted to the first queue. When more requests come than can
// be served, all wait that long, and promoting all would serve them in turn: the queues would mean nothing.
// So those on their way from the first queue back to the one they starved in are one in sixteen of the slots
// at most. That is enough for every request to end: the one that has waited longest is always next.
class skip_join_mlfq final : public ranked_policy<by_level> {
 public:
  skip_join_mlfq(time starvation, const cost_model& costs, std::int32_t slots)
      : starvation_{starvation}, costs_{costs}, most_promoted_{std::max(slots / 16, 1)} {}
  std::string_view name() const override { return "sj-mlfq"; }

  void unpop(policy_item& item) override {
    ranked_policy::unpop(item);
    wait(item);
  }
  void remove(policy_item& item) override {
    ranked_policy::remove(item);
    unwait(&item);
  }
  policy_item* pop(time now) override { return unwait(ranked_policy::pop(now)); }
  policy_item* pop_resident() override { return unwait(ranked_policy::pop_resident()); }
  void push(policy_item& item, time now) override {
    item.waiting_since = now;
    ranked_policy::push(item, now);
    wait(item);
  }
  void ran(policy_item& item, time spent) override {
    item.used += spent;
    if (item.used < quantum(item.level)) return;
    item.level = std::min(item.level + 1, last_level);
    item.used = {};
    item.ticket = next_ticket_++;
    if (item.level >= item.promoted_from) ended(item);
  }
  void ended(policy_item& item) override {
    if (item.promoted_from < 0) return;
    item.promoted_from = -1;
    --promoted_;
  }
  time until_promotion(const policy_item& item, time now) const override {
    if (item.level == 0 || promoted_ >= most_promoted_) return time::max();
    return std::max(starvation_ - (now - item.waiting_since), time{});
  }
  time service_before(const policy_item& item) const override {  // 1 + 2 + 4 + ... quanta
    return item.level == 0 ? time{} : quantum(item.level) - quantum(0);
  }

 private:
  struct by_wait {
    bool operator()(const policy_item* a, const policy_item* b) const {
      return std::tuple{-a->priority, a->waiting_since, a->id} <
             std::tuple{-b->priority, b->waiting_since, b->id};
    }
  };
  static constexpr std::int32_t last_level = 40;
  // The first queue's own requests have nowhere to be promoted to.
  void wait(policy_item& item) {
    if (item.level > 0) waiting_.insert_last(item);
  }
  policy_item* unwait(policy_item* item) {
    if (item != nullptr && item->level > 0) waiting_.erase(*item);
    return item;
  }
  // As far as a clock counts.
  time quantum(std::int32_t level) const {
    const auto step = costs_.costs().decode_step();
    return step > time::max() / (std::int64_t{1} << level) ? time::max() : step * (std::int64_t{1} << level);
  }

  void join(policy_item& item, time) override {
    if (item.ticket != 0) return;
    item.ticket = next_ticket_++;
    const auto first = costs_.costs().prefill(item.prefill_tokens, item.cached_tokens, item.prefill_tokens);
    while (item.level < last_level && quantum(item.level) < first) ++item.level;
  }
  void refresh(time now) override {
    // One before each that is popped is enough to have the most urgent one, and keeps a step's cost apart
    // from the number waiting.
    auto* item = waiting_.first();
    if (promoted_ >= most_promoted_ || item == nullptr || now - item->waiting_since < starvation_) return;
    // Those in front by the user's priority would go first all the same.
    if (items_.first()->priority > item->priority) return;
    waiting_.erase_first();
    items_.erase(*item);
    item->promoted_from = item->level;
    ++promoted_;
    item->level = 0;
    item->used = {};
    item->ticket = next_ticket_++;
    items_.insert(*item);
  }

  time starvation_;
  const cost_model& costs_;
  std::int32_t most_promoted_;
  std::int32_t promoted_ = 0;
  item_set<by_wait> waiting_;
};

// Who has waited longest for its size. The ratio changes with time, but within requests of equal service time
// the oldest always leads, so one look at the head of each service class (an eighth of an octave) is enough.
class hrrn final : public policy {
 public:
  explicit hrrn(const cost_model& costs) : costs_{costs} {}
  std::string_view name() const override { return "hrrn"; }

  void push(policy_item& item, time) override {
    if (item.ticket == 0) {
      item.ticket = next_ticket_++;
      const auto service =
          static_cast<double>(costs_.costs().prefill(item.total_tokens, 0, item.total_tokens).count());
      item.bucket =
          std::clamp(static_cast<std::int32_t>(8 * std::log2(std::max(service / 1e3, 1.0))), 0, classes - 1);
    }
    insert(item);
  }
  void unpop(policy_item& item) override { insert(item); }
  void remove(policy_item& item) override {
    if (item.started)
      running_.erase(item);
    else
      waiting_[static_cast<std::size_t>(item.bucket)].erase(item);
    --size_;
  }
  policy_item* pop(time now) override {
    auto* best = running_.first();
    if (best == nullptr) {
      for (const auto& c : waiting_) {
        auto* head = c.first();
        if (head == nullptr) continue;
        if (best == nullptr || leads(*head, *best, now)) best = head;
      }
    }
    if (best != nullptr) remove(*best);
    return best;
  }
  policy_item* pop_resident() override {
    auto* best = running_.first_resident();
    if (best != nullptr) remove(*best);
    return best;
  }
  void ran(policy_item&, time) override {}
  bool before(const policy_item& a, const policy_item& b, time now) const override {
    if (a.started != b.started) return a.started;
    return a.started ? by_arrival{}(&a, &b) : leads(a, b, now);
  }
  std::size_t size() const override { return size_; }

 private:
  static constexpr int classes = 256;

  static double ratio(const policy_item& item, time now) {
    return 1 + static_cast<double>((now - item.arrived).count()) / (1e3 * std::exp2(item.bucket / 8.0));
  }
  static bool leads(const policy_item& a, const policy_item& b, time now) {
    if (a.priority != b.priority) return a.priority > b.priority;
    return ratio(a, now) > ratio(b, now);
  }
  void insert(policy_item& item) {
    if (item.started)
      running_.insert(item);
    else
      waiting_[static_cast<std::size_t>(item.bucket)].insert(item);
    ++size_;
  }

  const cost_model& costs_;
  std::uint64_t next_ticket_ = 1;
  std::size_t size_ = 0;
  ranked<by_arrival> running_;
  std::array<item_set<by_arrival>, classes> waiting_;
};

}  // namespace

std::vector<std::string> policy_names() { return {"fcfs", "sj-mlfq", "hrrn", "srpt"}; }

std::unique_ptr<policy> make_policy(const policy_options& options, const cost_model& costs,
                                    std::int32_t slots) {
  if (options.name == "fcfs") return std::make_unique<fcfs>();
  if (options.name == "srpt") return std::make_unique<srpt>(costs);
  if (options.name == "hrrn") return std::make_unique<hrrn>(costs);
  if (options.name == "sj-mlfq") return std::make_unique<skip_join_mlfq>(options.starvation, costs, slots);
  std::string known;
  for (const auto& n : policy_names()) known += (known.empty() ? "" : ", ") + n;
  throw std::invalid_argument("unknown scheduling policy '" + options.name + "'; known: " + known);
}

}  // namespace fastserve::scheduler
