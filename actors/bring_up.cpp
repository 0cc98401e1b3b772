#include "actors/bring_up.hpp"

#include <algorithm>
#include <chrono>
#include <limits>

#include "planner/partition.hpp"

namespace fastserve::actors {

namespace {

// A node answers at once; loading takes as long as the file system does.
constexpr std::chrono::seconds profile_deadline{60};

// Part of a rank's free memory that weights and KV may take. The rest is for activations and the system.
constexpr double usable_memory = 0.85;

// The least KV pool worth starting with: one sequence of this many tokens (or of the whole context).
constexpr std::int32_t least_kv_tokens = 2048;

// Fewer blocks hold no prompt with an answer.
constexpr std::int32_t least_kv_blocks = 2;

// Sends one request to each of `to` and takes the answers in order. Returns the first error in words.
template <class Answer, class Message, class Timeout>
std::string ask_all(caf::actor_system& sys, caf::scoped_actor& self, const std::vector<node_actor>& to,
                    const std::vector<Message>& messages, Timeout timeout, std::vector<Answer>& answers) {
  using pending = decltype(mpi::request(self.ptr(), to[0], timeout, messages[0]));
  std::vector<pending> waiting;
  waiting.reserve(to.size());
  for (std::size_t i = 0; i < to.size(); ++i)
    waiting.push_back(mpi::request(self.ptr(), to[i], timeout, messages[i]));
  std::string error;
  answers.resize(to.size());
  for (std::size_t i = 0; i < to.size(); ++i)
    waiting[i].receive([&](Answer& a) { answers[i] = std::move(a); },
                       [&](const caf::error& e) {
                         if (error.empty())
                           error = "rank " + std::to_string(i) + ": " + mpi::describe(sys, e);
                       });
  return error;
}

planner::model_cost cost_of(const rank_context& context, std::int32_t kv_tokens) {
  const auto& a = context.architecture;
  const auto element = kernels::size_of(context.compute_type);
  planner::model_cost cost;
  cost.layers = a.layers;
  cost.layer = static_cast<double>(a.layer_parameters());
  // A row of the head is read for each sequence that draws, not for each token: prefill hardly sees it.
  // Decode does, fully; that is the longer part of an answer.
  cost.head = static_cast<double>(a.head_parameters());
  cost.layer_bytes = static_cast<std::size_t>(a.layer_parameters()) * element;
  cost.embedding_bytes = static_cast<std::size_t>(a.embedding_parameters()) * kernels::size_of(a.stored_type);
  cost.head_bytes = static_cast<std::size_t>(a.head_parameters()) * element;
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

engine_layout bring_up(caf::actor_system& sys, const rank_context& leader,
                       const std::vector<node_actor>& nodes, const std::vector<executor_actor>& executors,
                       const engine_wishes& wishes, std::uint32_t epoch) {
  engine_layout out;
  caf::scoped_actor self{sys};
  const auto ranks = nodes.size();

  std::vector<node_profile> profiles;
  out.error =
      ask_all(sys, self, nodes, std::vector<profile_request>(ranks, {epoch}), profile_deadline, profiles);
  if (!out.error.empty()) return out;

  const auto& arch = leader.architecture;
  auto& limits = out.limits;
  limits.max_context =
      wishes.max_context > 0 ? std::min(wishes.max_context, arch.max_positions) : arch.max_positions;
  std::vector<planner::rank_offer> offers;
  for (const auto& p : profiles)
    offers.push_back(
        {p.rank, 1.0, static_cast<std::size_t>(usable_memory * static_cast<double>(p.memory_bytes))});
  const auto plan =
      planner::partition(cost_of(leader, std::min(limits.max_context, least_kv_tokens)), offers);
  if (!plan.error.empty()) {
    out.error = plan.error;
    return out;
  }

  limits.stages = static_cast<std::int32_t>(plan.stages.size());
  limits.max_batch = wishes.max_batch;
  limits.policy = wishes.policy;
  limits.prefix_caching = wishes.prefix_caching;
  limits.token_budget = std::max(wishes.token_budget, wishes.max_batch);

  std::vector<stage_assignment> places(ranks);
  for (auto& p : places) p.epoch = epoch;
  out.rows.resize(ranks);
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    const auto& s = plan.stages[i];
    auto& p = places.at(static_cast<std::size_t>(s.rank));
    p.first_layer = s.first_layer;
    p.last_layer = s.last_layer;
    p.previous_rank = i == 0 ? -1 : plan.stages[i - 1].rank;
    p.next_rank = i + 1 == plan.stages.size() ? -1 : plan.stages[i + 1].rank;
    p.max_rows = limits.token_budget;
    p.max_sequences = limits.max_batch;
    out.pipeline.push_back(executors.at(static_cast<std::size_t>(s.rank)));
  }

  std::vector<stage_ready> ready;
  out.error = ask_all(sys, self, nodes, places, caf::infinite, ready);
  for (const auto& r : ready)
    if (out.error.empty()) out.error = r.error;
  if (!out.error.empty()) return out;

  limits.swap = choose_slots(ready, wishes.swap);
  limits.kv_blocks = choose_blocks(ready, wishes.kv_tokens, limits, wishes.swap.memory_bytes);
  if (limits.kv_blocks < least_kv_blocks) {
    out.error =
        wishes.kv_tokens > 0 && scheduler::blocks_for(wishes.kv_tokens) < least_kv_blocks
            ? "--kv-tokens " + std::to_string(wishes.kv_tokens) +
                  " is too few: a prompt and its answer need " +
                  std::to_string(least_kv_blocks * scheduler::block_tokens) + " at least"
        : wishes.swap.memory_bytes > 0
            ? "no memory is left for a KV cache; lower --swap-space, or start more ranks on more nodes"
            : "no memory is left for a KV cache; start more ranks on more nodes";
    return out;
  }
  std::vector<kv_ready> stores;
  out.error = ask_all(sys, self, nodes,
                      std::vector<kv_allotment>(
                          ranks, {epoch, limits.kv_blocks, limits.swap.memory_slots, limits.swap.disk_slots}),
                      caf::infinite, stores);
  for (const auto& s : stores)
    if (out.error.empty()) out.error = s.error;
  if (!out.error.empty()) return out;
  set_move_times(limits.swap, stores);

  for (std::size_t i = 0; i < ranks; ++i)
    out.rows[i] = {profiles[i],           places[i].first_layer, places[i].last_layer, places[i].next_rank,
                   ready[i].weight_bytes, ready[i].step_bytes,   stores[i].bytes,      ready[i].load_ns};
  return out;
}

}  // namespace fastserve::actors
