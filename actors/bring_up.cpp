#include "actors/bring_up.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "actors/unequal_ranks.hpp"
#include "model/stage_weights.hpp"

namespace fastserve::actors {

namespace {

std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

// A node answers at once; loading takes as long as the file system does.
constexpr std::chrono::seconds answer_deadline{60};

// Part of a rank's free memory that weights and KV may take. The rest is for activations and the system.
constexpr double usable_memory = 0.85;

// The least KV pool worth starting with: one sequence of this many tokens (or of the whole context).
constexpr std::int32_t least_kv_tokens = 2048;

// Fewer blocks hold no prompt with an answer.
constexpr std::int32_t least_kv_blocks = 2;

planner::model_cost cost_of(const rank_context& context, std::int32_t kv_tokens) {
  const auto& a = context.architecture;
  const auto bytes_of = [&](std::int64_t parameters, const std::optional<kernels::quantized_format>& format) {
    const auto bits = format ? format->bits_per_weight(a.hidden_size)
                             : 8.0 * double(kernels::size_of(context.compute_type));
    return static_cast<std::size_t>(static_cast<double>(parameters) * bits / 8);
  };
  planner::model_cost cost;
  cost.layers = a.layers;
  cost.layer = static_cast<double>(a.layer_parameters());
  // A row of the head is read for each sequence that draws, not for each token: prefill hardly sees it.
  // Decode does, fully; that is the longer part of an answer.
  cost.head = static_cast<double>(a.head_parameters());
  cost.layer_bytes = bytes_of(a.layer_parameters(), context.quantize);
  cost.embedding_bytes = static_cast<std::size_t>(a.embedding_parameters()) * kernels::size_of(a.stored_type);
  cost.head_bytes =
      bytes_of(a.head_parameters(), model::head_format({context.compute_type, context.quantize}));
  cost.kv_layer_bytes = a.kv_token_bytes(context.kv_type) * static_cast<std::size_t>(kv_tokens);
  return cost;
}

// Preemptive policies keep the KV of requests that wait: up to seven times what runs (FastServe's paper,
// section 4.2).
constexpr std::int64_t preemptive_share = 8;

// Blocks of the pool: what the tightest stage can hold, and what was wished for; without a wish, no more than
// all sequences of a full pipeline can use.
std::int32_t choose_blocks(const std::vector<stage_ready>& ready, std::int64_t wished_tokens,
                           const scheduler::limits& limits, std::uint64_t swap_bytes) {
  const bool preemptive = limits.policy.name == "sj-mlfq" || limits.policy.name == "srpt";
  auto blocks = std::int64_t{limits.max_batch} * limits.stages * scheduler::blocks_for(limits.max_context) *
                (preemptive ? preemptive_share : 1);
  if (wished_tokens > 0) blocks = (wished_tokens + scheduler::block_tokens - 1) / scheduler::block_tokens;
  for (const auto& r : ready)
    if (r.kv_block_bytes > 0) {
      const auto room = usable_memory * static_cast<double>(r.free_bytes) - static_cast<double>(swap_bytes);
      blocks = std::min(
          blocks, static_cast<std::int64_t>(std::max(room, 0.0) / static_cast<double>(r.kv_block_bytes)));
    }
  return static_cast<std::int32_t>(std::min<std::int64_t>(blocks, std::numeric_limits<std::int32_t>::max()));
}

}  // namespace

bring_up::bring_up(caf::actor_system& sys, const rank_context& leader, std::vector<node_actor> nodes,
                   std::vector<executor_actor> executors, std::vector<cache_actor> caches,
                   const engine_wishes& wishes)
    : sys_{sys},
      leader_{leader},
      nodes_{std::move(nodes)},
      executors_{std::move(executors)},
      caches_{std::move(caches)},
      wishes_{wishes} {
  const auto& arch = leader.architecture;
  limits_.max_context =
      wishes.max_context > 0 ? std::min(wishes.max_context, arch.max_positions) : arch.max_positions;
  limits_.max_batch = wishes.max_batch;
  limits_.policy = wishes.policy;
  limits_.prefix_caching = wishes.prefix_caching;
  limits_.token_budget = std::max(wishes.token_budget, wishes.max_batch);
}

// Sends one request to each of `ranks` and takes the answers in order. Returns the first error in words.
template <class Answer, class Message, class Timeout>
std::string bring_up::ask(const std::vector<int>& ranks, const std::vector<Message>& messages,
                          Timeout timeout, std::vector<Answer>& answers) {
  caf::scoped_actor self{sys_};
  using pending = decltype(mpi::request(self.ptr(), nodes_[0], timeout, messages[0]));
  std::vector<pending> waiting;
  waiting.reserve(ranks.size());
  for (std::size_t i = 0; i < ranks.size(); ++i)
    waiting.push_back(mpi::request(self.ptr(), nodes_[at(ranks[i])], timeout, messages[i]));
  std::string error;
  answers.resize(ranks.size());
  for (std::size_t i = 0; i < ranks.size(); ++i)
    waiting[i].receive([&](Answer& a) { answers[i] = std::move(a); },
                       [&](const caf::error& e) {
                         if (error.empty())
                           error = "rank " + std::to_string(ranks[i]) + ": " + mpi::describe(sys_, e);
                       });
  return error;
}

std::string bring_up::ask_profiles(const std::vector<int>& living, std::uint32_t epoch) {
  std::vector<int> unknown;
  for (const auto rank : living)
    if (!profiles_.contains(rank)) unknown.push_back(rank);
  std::vector<node_profile> answers;
  auto error = ask(unknown, std::vector<profile_request>(unknown.size(), {epoch}), answer_deadline, answers);
  if (!error.empty()) return error;
  for (std::size_t i = 0; i < unknown.size(); ++i) profiles_[unknown[i]] = std::move(answers[i]);
  return {};
}

planner::pipeline_plan bring_up::plan(const std::vector<int>& usable) const {
  const auto speeds = relative_speeds(leader_, profiles_, wishes_.speeds, usable);
  std::vector<planner::rank_offer> offers;
  for (const auto rank : usable)
    offers.push_back(
        {rank, speeds.at(rank),
         static_cast<std::size_t>(usable_memory * static_cast<double>(profiles_.at(rank).memory_bytes))});
  const auto cost = cost_of(leader_, std::min(limits_.max_context, least_kv_tokens));
  if (!stages_.empty()) return planner::plan_again(cost, offers, stages_);

  const auto spares = std::min<std::size_t>(at(wishes_.spare_ranks), offers.size() - 1);
  if (are_unequal(speeds)) {
    auto made = plan_unequal(leader_, profiles_, wishes_.speeds, usable,
                             {usable_memory, limits_.max_batch, limits_.token_budget,
                              std::min(limits_.max_context, least_kv_tokens), static_cast<int>(spares)});
    if (made.error.empty()) return made;
  }
  auto out = planner::partition(cost, {offers.begin(), offers.end() - static_cast<std::ptrdiff_t>(spares)});
  if (!out.error.empty() && spares > 0) out.error += ", or fewer of them as spares";
  for (auto i = offers.size() - spares; i < offers.size(); ++i) out.spares.push_back(offers[i].rank);
  return out;
}

std::vector<stage_assignment> bring_up::places_of(const planner::pipeline_plan& plan,
                                                  std::uint32_t epoch) const {
  std::vector<stage_assignment> out(nodes_.size());
  for (auto& p : out) {
    p.epoch = epoch;
    p.max_rows = limits_.token_budget;
    p.max_sequences = limits_.max_batch;
  }
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    const auto& s = plan.stages[i];
    auto& p = out.at(at(s.rank));
    p.first_layer = s.first_layer;
    p.last_layer = s.last_layer;
    p.previous_rank = i == 0 ? -1 : plan.stages[i - 1].rank;
    p.next_rank = i + 1 == plan.stages.size() ? -1 : plan.stages[i + 1].rank;
  }
  return out;
}

// Where several stages have devices that can be joined, the first of them makes up what they meet under.
std::string bring_up::link(const planner::pipeline_plan& plan, std::vector<stage_assignment>& places) {
  std::vector<int> ranks;
  std::vector<std::string> devices;
  for (const auto& s : plan.stages) {
    ranks.push_back(s.rank);
    devices.push_back(profiles_.at(s.rank).link_device);
  }
  const auto joined = mpi::linkable(ranks, devices);
  if (joined.empty()) return {};
  std::vector<link_offer> offers;
  auto error = ask(std::vector<int>{joined.front()},
                   std::vector<link_request>{{places.at(at(joined.front())).epoch}}, answer_deadline, offers);
  if (error.empty() && !offers.front().error.empty())
    error = "rank " + std::to_string(joined.front()) + ": " + offers.front().error;
  if (!error.empty()) return error;
  for (const auto rank : joined) {
    places.at(at(rank)).link_id = offers.front().id;
    places.at(at(rank)).link_ranks = joined;
  }
  return {};
}

// Each spare gets the weights of as many stages as it has room for, the first spare from the first stage on,
// the next from the one behind.
void bring_up::hold_ready(const planner::pipeline_plan& plan, std::vector<stage_assignment>& places) const {
  if (!wishes_.hot_spares) return;
  const auto cost = cost_of(leader_, std::min(limits_.max_context, least_kv_tokens));
  for (std::size_t i = 0; i < plan.spares.size(); ++i) {
    const auto rank = plan.spares[i];
    const auto room = usable_memory * static_cast<double>(profiles_.at(rank).memory_bytes);
    auto& place = places.at(at(rank));
    const auto fits = [&](std::int32_t first, std::int32_t last) {
      auto bytes =
          static_cast<double>(last - first) * static_cast<double>(cost.layer_bytes + cost.kv_layer_bytes);
      if (first == 0) bytes += static_cast<double>(cost.embedding_bytes);
      if (last == cost.layers) bytes += static_cast<double>(cost.head_bytes);
      return bytes <= room;
    };
    if (fits(0, cost.layers)) {
      place.held_last = cost.layers;
      continue;
    }
    auto s = i % plan.stages.size();
    place.held_first = place.held_last = plan.stages[s].first_layer;
    for (; s < plan.stages.size() && fits(place.held_first, plan.stages[s].last_layer); ++s)
      place.held_last = plan.stages[s].last_layer;
  }
}

std::vector<int> bring_up::without(const std::set<int>& gone) const {
  std::vector<int> out;
  for (std::size_t r = 0; r < nodes_.size(); ++r)
    if (!gone.contains(static_cast<int>(r))) out.push_back(static_cast<int>(r));
  return out;
}

std::string bring_up::objection(const std::set<int>& gone, const std::set<int>& emptied) const {
  auto out = gone;
  out.insert(emptied.begin(), emptied.end());
  const auto usable = without(out);
  return usable.empty() ? "no rank would be left" : plan(usable).error;
}

engine_layout bring_up::run(std::uint32_t epoch, const std::set<int>& gone, const std::set<int>& emptied) {
  engine_layout out;
  out.epoch = epoch;
  const auto living = without(gone);
  const auto ranks = living.size();

  std::vector<epoch_ready> begun;
  out.error = ask(living, std::vector<epoch_change>(ranks, {epoch}), answer_deadline, begun);
  if (out.error.empty()) out.error = ask_profiles(living, epoch);
  if (!out.error.empty()) return out;

  auto idle = gone;
  idle.insert(emptied.begin(), emptied.end());
  auto usable = without(idle);
  if (usable.empty()) usable = living;  // those that were to be emptied are needed after all
  const auto pipeline = plan(usable);
  if (!pipeline.error.empty()) {
    out.error = pipeline.error;
    return out;
  }
  stages_ = pipeline.stages;
  limits_.stages = static_cast<std::int32_t>(stages_.size());
  auto places = places_of(pipeline, epoch);
  hold_ready(pipeline, places);
  out.error = link(pipeline, places);
  if (!out.error.empty()) return out;
  std::vector<stage_assignment> orders;
  for (const auto rank : living) orders.push_back(places[at(rank)]);

  std::vector<stage_ready> ready;
  out.error = ask(living, orders, caf::infinite, ready);
  for (const auto& r : ready)
    if (out.error.empty()) out.error = r.error;
  if (!out.error.empty()) return out;

  limits_.swap = choose_slots(ready, wishes_.swap);
  limits_.kv_blocks = choose_blocks(ready, wishes_.kv_tokens, limits_, wishes_.swap.memory_bytes);
  if (limits_.kv_blocks < least_kv_blocks) {
    out.error =
        wishes_.kv_tokens > 0 && scheduler::blocks_for(wishes_.kv_tokens) < least_kv_blocks
            ? "--kv-tokens " + std::to_string(wishes_.kv_tokens) +
                  " is too few: a prompt and its answer need " +
                  std::to_string(least_kv_blocks * scheduler::block_tokens) + " at least"
        : wishes_.swap.memory_bytes > 0
            ? "no memory is left for a KV cache; lower --swap-space, or start more ranks on more nodes"
            : "no memory is left for a KV cache; start more ranks on more nodes";
    return out;
  }
  std::vector<kv_ready> stores;
  out.error = ask(living,
                  std::vector<kv_allotment>(
                      ranks, {epoch, limits_.kv_blocks, limits_.swap.memory_slots, limits_.swap.disk_slots}),
                  caf::infinite, stores);
  for (const auto& s : stores)
    if (out.error.empty()) out.error = s.error;
  if (!out.error.empty()) return out;
  set_move_times(limits_.swap, stores);
  out.limits = limits_;

  for (const auto& s : stages_) {
    out.pipeline.push_back(executors_.at(at(s.rank)));
    out.caches.push_back(caches_.at(at(s.rank)));
    out.stage_ranks.push_back(s.rank);
  }
  const auto cost = cost_of(leader_, 0);
  const auto share_of = [&](const stage_assignment& p) {
    if (p.first_layer == p.last_layer) return 0.0;
    return (p.last_layer - p.first_layer) * cost.layer + (p.next_rank < 0 ? cost.head : 0.0);
  };
  const auto speeds = relative_speeds(leader_, profiles_, wishes_.speeds, living);
  for (std::size_t i = 0; i < ranks; ++i)
    out.rows.push_back({profiles_.at(living[i]), orders[i].first_layer, orders[i].last_layer,
                        orders[i].next_rank, ready[i].weight_bytes, ready[i].step_bytes, stores[i].bytes,
                        ready[i].load_ns, share_of(orders[i]) / speeds.at(living[i]), ready[i].channel});
  return out;
}

}  // namespace fastserve::actors
