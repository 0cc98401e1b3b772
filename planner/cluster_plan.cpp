#include "planner/cluster_plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>

#include "planner/plan_reasons.hpp"

namespace fastserve::planner {

namespace {

constexpr std::size_t every_number_up_to = 64;  // of ranks: beyond, not every number of stages is tried
constexpr double worth_more_ranks = 1.005;      // what a plan with more stages must gain

using ranks_of = std::vector<std::size_t>;  // indices of cluster::ranks

// Identical pipelines are planned once.
using pipeline_key = std::vector<std::size_t>;

class plan_maker {
 public:
  plan_maker(const model_work& model, const cluster& on, const plan_wishes& w)
      : model_{model}, on_{on}, w_{w}, batch_{w.batch == 0 && w.goal == plan_goal::latency ? 1 : w.batch} {
    std::map<
        std::tuple<std::array<double, arithmetics>, double, double, double, double, double, double, double>,
        std::size_t>
        kinds;
    for (const auto& r : on.ranks)
      kind_.push_back(kinds
                          .try_emplace({r.ops_per_s, r.bytes_per_s, r.elements_per_s, r.step_s, r.operation_s,
                                        r.memory_bytes, r.alone_ops, r.alone_bytes},
                                       kinds.size())
                          .first->second);
    for (const auto& r : on.ranks) speed_.push_back(step_line(model, r, 1, 1, 1, 1).layer);
  }

  cluster_plan make() {
    cluster_plan out;
    if (on_.ranks.empty()) return refuse("there are no ranks");
    if (static_cast<std::size_t>(w_.spares) >= on_.ranks.size())
      return refuse(std::to_string(w_.spares) + " spares of " + std::to_string(on_.ranks.size()) +
                    " ranks leave none to serve");
    choose_spares(out);
    if (w_.replicas > 0 && static_cast<std::size_t>(w_.replicas) > usable_.size())
      return refuse(std::to_string(w_.replicas) + " pipelines need as many ranks, there are " +
                    std::to_string(usable_.size()) + " without the spares");
    for (const auto stages : stage_counts()) {
      const auto most = usable_.size() / stages;
      if (w_.replicas > 0) {
        if (static_cast<std::size_t>(w_.replicas) <= most)
          consider(static_cast<std::size_t>(w_.replicas), stages);
      } else {
        consider(most, stages);
        if (most > 1) consider(1, stages);
      }
    }
    if (!best_) return refuse(no_room(model_, on_, usable_, w_));
    out.pipelines = std::move(best_->pipelines);
    out.expected = best_->expected;
    std::set<int> used(out.spares.begin(), out.spares.end());
    for (const auto& p : out.pipelines)
      for (const auto& s : p.stages) used.insert(s.rank);
    for (const auto& r : on_.ranks)
      if (!used.contains(r.rank)) out.left_out.push_back(r.rank);
    plan_alternatives other;
    other.best = best_->score;
    other.by_pipelines = alternatives_;
    other.problem = [this](const ranks_of& ranks, double sequences) {
      return problem_of(ranks, ranks.size(), sequences, 0);
    };
    explain(model_, on_, w_, other, out);
    return out;
  }

 private:
  struct candidate {
    std::vector<planned_pipeline> pipelines;
    prediction expected;
    double score = 0;  // larger is better
  };

  static cluster_plan refuse(std::string why) {
    cluster_plan out;
    out.error = std::move(why);
    return out;
  }

  // The slowest: their absence costs least. The last of equals.
  void choose_spares(cluster_plan& out) {
    usable_.resize(on_.ranks.size());
    std::iota(usable_.begin(), usable_.end(), std::size_t{0});
    std::stable_sort(usable_.begin(), usable_.end(),
                     [&](std::size_t a, std::size_t b) { return speed_[a] < speed_[b]; });
    for (int i = 0; i < w_.spares; ++i) {
      out.spares.push_back(on_.ranks[usable_.back()].rank);
      usable_.pop_back();
    }
    std::sort(out.spares.begin(), out.spares.end());
    std::sort(usable_.begin(), usable_.end());
  }

  // Fewest first: a plan with more stages must be better to be taken.
  std::vector<std::size_t> stage_counts() const {
    auto most = std::min(usable_.size(), static_cast<std::size_t>(model_.layers));
    if (w_.most_stages > 0) most = std::min(most, static_cast<std::size_t>(w_.most_stages));
    std::vector<std::size_t> out;
    for (std::size_t s = 1; s <= most; s = usable_.size() <= every_number_up_to || s < 8 ? s + 1 : s * 5 / 4)
      out.push_back(s);
    if (out.empty() || out.back() != most) out.push_back(most);
    return out;
  }

  chain_problem problem_of(const ranks_of& ranks, std::size_t stages, double sequences,
                           double kv_tokens) const {
    chain_problem p;
    p.layers = model_.layers;
    p.layer_bytes = model_.layer_bytes + model_.layer.kv_bytes * kv_tokens;
    p.embedding_bytes = model_.embedding_bytes;
    p.head_bytes = model_.head_bytes;
    const auto micro_batches = std::max(std::min(static_cast<double>(stages), sequences), 1.0);
    const auto rows = std::max(std::ceil(sequences / micro_batches), 1.0);
    std::map<int, std::size_t> groups;
    std::vector<std::size_t> member;
    for (const auto r : ranks) {
      const auto& profile = on_.ranks[r];
      const auto line =
          request_line(model_, profile, w_.prompt_tokens, w_.answer_tokens, w_.token_budget, rows);
      const auto [g, fresh] = groups.try_emplace(profile.group, groups.size());
      if (fresh) member.push_back(r);
      p.ranks.push_back({line, w_.usable_memory * profile.memory_bytes, g->second});
    }
    p.groups = groups.size();
    p.hops.assign(p.groups * p.groups, 0);
    const auto chunk = std::min(w_.token_budget, w_.prompt_tokens);
    for (std::size_t a = 0; a < p.groups; ++a)
      for (std::size_t b = 0; b < p.groups; ++b) {
        const auto& l = on_.between(on_.ranks[member[a]], on_.ranks[member[b]]);
        // While a request of many is served a link is busy with its bytes; a lone one waits for the latency
        // too.
        const auto wait = w_.goal == plan_goal::latency ? l.latency_s : 0;
        p.hops[a * p.groups + b] =
            w_.prompt_tokens / chunk * (l.seconds(model_.hop_bytes(chunk)) - l.latency_s + wait) +
            w_.answer_tokens / rows * (l.seconds(model_.hop_bytes(rows)) - l.latency_s + wait);
      }
    return p;
  }

  pipeline_key key_of(const ranks_of& ranks) const {
    pipeline_key key;
    std::set<int> groups;
    for (const auto r : ranks) {
      key.push_back(kind_[r]);
      groups.insert(on_.ranks[r].group);
    }
    // Within one group only the link counts; across several, which they are.
    if (groups.size() == 1) {
      const auto& l = on_.between(on_.ranks[ranks[0]], on_.ranks[ranks[0]]);
      key.push_back(links_.try_emplace({l.latency_s, l.bytes_per_s}, links_.size()).first->second);
    } else {
      for (const auto r : ranks) key.push_back(static_cast<std::size_t>(on_.ranks[r].group));
      key.push_back(std::numeric_limits<std::size_t>::max());
    }
    return key;
  }

  // The best pipeline of at most `stages` of these ranks; none when the layers do not fit.
  std::optional<planned_pipeline> pipeline(const ranks_of& ranks, std::size_t stages, double sequences) {
    auto key = key_of(ranks);
    key.push_back(stages);
    key.push_back(static_cast<std::size_t>(sequences));
    if (const auto known = planned_.find(key); known != planned_.end()) {
      auto out = known->second.first;
      if (out)
        for (std::size_t i = 0; i < out->stages.size(); ++i)
          out->stages[i].rank = on_.ranks[ranks[known->second.second[i]]].rank;
      return out;
    }
    std::optional<planned_pipeline> best;
    std::vector<std::size_t> members;
    const auto whole = w_.prompt_tokens + w_.answer_tokens;
    const auto context = std::max(w_.context_tokens, whole);
    for (const auto goal : {chain_goal::slowest, chain_goal::sum}) {
      if (goal == chain_goal::sum && w_.goal == plan_goal::throughput) continue;
      // KV for all sequences if there is room, else for fewer of them.
      for (auto n = sequences; n >= 1; n = n > 1 ? std::max(std::floor(n / 2), 1.0) : 0) {
        const auto cut = cut_any_order(problem_of(ranks, stages, n, std::max(n * whole, context)),
                                       static_cast<std::int32_t>(stages), goal);
        if (!cut.found()) continue;
        planned_pipeline made;
        for (const auto& s : cut.stages)
          made.stages.push_back({on_.ranks[ranks[s.rank]].rank, s.first, s.last, 0, 0, 0, 0, 0});
        predict(model_, on_, w_, sequences, made);
        if (!best || score_of(made.expected) > score_of(best->expected)) {
          best = std::move(made);
          members.clear();
          for (const auto& s : cut.stages) members.push_back(s.rank);
        }
        break;
      }
    }
    planned_.emplace(std::move(key), std::pair{best, members});
    return best;
  }

  double score_of(const prediction& e) const {
    return w_.goal == plan_goal::throughput ? e.answer_tokens_per_s
                                            : 1 / (e.ttft_s + std::max(w_.answer_tokens - 1, 0.0) * e.tpot_s);
  }

  void consider(std::size_t pipelines, std::size_t stages) {
    if (batch_ > 0 && static_cast<double>(pipelines) > batch_) return;  // some would be idle
    for (const bool mixed : {false, true}) {
      if (mixed && pipelines == 1) break;
      std::vector<ranks_of> parts(pipelines);
      if (pipelines == 1) {
        parts[0] = usable_;
      } else {
        ranks_of order = usable_;
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
          if (!mixed && on_.ranks[a].group != on_.ranks[b].group)
            return on_.ranks[a].group < on_.ranks[b].group;
          return speed_[a] < speed_[b];
        });
        // All ranks are dealt out: a pipeline may use fewer than it has.
        for (std::size_t i = 0; i < order.size(); ++i) {
          const auto round = i / pipelines;
          const auto at = i % pipelines;
          const auto part = mixed ? (round % 2 == 0 ? at : pipelines - 1 - at) : i * pipelines / order.size();
          parts[part].push_back(order[i]);
        }
      }
      candidate c;
      bool whole = true;
      for (std::size_t i = 0; i < pipelines && whole; ++i) {
        const auto sequences = batch_ > 0
                                   ? std::ceil(batch_ / static_cast<double>(pipelines))
                                   : w_.max_batch * static_cast<double>(std::min(stages, parts[i].size()));
        auto made = pipeline(parts[i], stages, sequences);
        if (!made) {
          whole = false;
          break;
        }
        auto& sum = c.expected;
        const auto& e = made->expected;
        sum.ttft_s = std::max(sum.ttft_s, e.ttft_s);
        sum.tpot_s = std::max(sum.tpot_s, e.tpot_s);
        sum.prefill_tokens_per_s += e.prefill_tokens_per_s;
        sum.decode_tokens_per_s += e.decode_tokens_per_s;
        sum.answer_tokens_per_s += e.answer_tokens_per_s;
        c.pipelines.push_back(std::move(*made));
      }
      if (!whole) continue;
      c.score = score_of(c.expected);
      auto& seen = alternatives_[pipelines];
      seen = std::max(seen, c.score);
      if (!best_ || c.score > best_->score * worth_more_ranks) best_ = std::move(c);
    }
  }

  const model_work& model_;
  const cluster& on_;
  const plan_wishes& w_;
  const double batch_;
  std::vector<std::size_t> kind_;  // [ranks]: equal numbers, equal profiles
  std::vector<double> speed_;      // [ranks]: time of a layer for one token
  ranks_of usable_;
  mutable std::map<std::pair<double, double>, std::size_t> links_;
  std::map<pipeline_key, std::pair<std::optional<planned_pipeline>, std::vector<std::size_t>>> planned_;
  std::optional<candidate> best_;
  std::map<std::size_t, double> alternatives_;  // pipelines -> the best score
};

}  // namespace

cluster_plan make_plan(const model_work& model, const cluster& on, const plan_wishes& wishes) {
  return plan_maker{model, on, wishes}.make();
}

}  // namespace fastserve::planner
