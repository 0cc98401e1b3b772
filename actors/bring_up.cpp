#include "actors/bring_up.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "actors/measured_speed.hpp"
#include "actors/replica_choice.hpp"
#include "actors/standing_stages.hpp"
#include "actors/unequal_ranks.hpp"

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

const char* no_memory(const engine_wishes& wishes) {
  return wishes.swap.memory_bytes > 0
             ? "no memory is left for a KV cache; lower --swap-space, or start more ranks on more nodes"
             : "no memory is left for a KV cache; start more ranks on more nodes";
}

}  // namespace

std::int32_t engine_layout::stages() const {
  std::int32_t out = 0;
  for (const auto& p : pipelines) out += p.stands ? p.limits.stages : 0;
  return out;
}

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

std::string bring_up::ask_profiles(const std::vector<int>& living) {
  std::vector<int> unknown;
  for (const auto rank : living)
    if (!profiles_.contains(rank)) unknown.push_back(rank);
  std::vector<node_profile> answers;
  auto error = ask(unknown, std::vector<profile_request>(unknown.size()), answer_deadline, answers);
  if (!error.empty()) return error;
  for (std::size_t i = 0; i < unknown.size(); ++i) profiles_[unknown[i]] = std::move(answers[i]);
  return {};
}

std::vector<planner::rank_offer> bring_up::offers_of(const std::vector<int>& ranks) const {
  const auto speeds = relative_speeds(leader_, profiles_, wishes_.speeds, ranks);
  std::vector<planner::rank_offer> out;
  for (const auto rank : ranks)
    out.push_back(
        {rank, speeds.at(rank),
         static_cast<std::size_t>(usable_memory * static_cast<double>(profiles_.at(rank).memory_bytes))});
  return out;
}

// Per layer and of the head, of a request. The head takes the rows that draw: all of an answer, one of a
// prompt.
planner::model_cost bring_up::cost_of(std::int32_t kv_tokens) const {
  const auto& a = leader_.architecture;
  const auto work = work_of(leader_);
  planner::model_cost cost;
  cost.layers = a.layers;
  cost.layer_bytes = static_cast<std::size_t>(work.layer_bytes);
  cost.embedding_bytes = static_cast<std::size_t>(work.embedding_bytes);
  cost.head_bytes = static_cast<std::size_t>(work.head_bytes);
  cost.kv_layer_bytes = a.kv_token_bytes(leader_.kv_type) * static_cast<std::size_t>(kv_tokens);
  const auto measured = std::find_if(wishes_.speeds.begin(), wishes_.speeds.end(), [this](const auto& s) {
    return s.second.known() && profiles_.contains(s.first);
  });
  if (measured != wishes_.speeds.end()) {
    const auto on = profile_of(profiles_.at(measured->first), measured->second);
    const auto line = planner::request_line(work, on, request_tokens, request_tokens, limits_.token_budget,
                                            limits_.max_batch);
    cost.embedding = line.embedding;
    cost.layer = line.layer;
    cost.head = line.head;
  } else {
    cost.layer = 2.0 * static_cast<double>(a.layer_parameters());
    cost.head = static_cast<double>(a.head_parameters());
  }
  return cost;
}

std::size_t bring_up::spares_of(const std::vector<int>& usable) const {
  return std::min<std::size_t>(at(wishes_.spare_ranks), usable.size() - 1);
}

// As many ranks for each pipeline, one more for the first ones where that does not work out, neighbours
// together: they share a host.
std::vector<planner::pipeline_plan> bring_up::plan_pipelines(const std::vector<int>& usable,
                                                             std::size_t count) const {
  const auto cost = cost_of(std::min(limits_.max_context, least_kv_tokens));
  const auto spares = spares_of(usable);
  const auto ranks = usable.size() - spares;
  if (count == 1 && are_unequal(relative_speeds(leader_, profiles_, wishes_.speeds, usable))) {
    auto made = plan_unequal(leader_, profiles_, wishes_.speeds, usable,
                             {usable_memory, limits_.max_batch, limits_.token_budget,
                              std::min(limits_.max_context, least_kv_tokens), static_cast<int>(spares)});
    if (made.error.empty()) return {std::move(made)};
  }
  const auto offers = offers_of({usable.begin(), usable.begin() + static_cast<std::ptrdiff_t>(ranks)});
  std::vector<planner::pipeline_plan> out;
  auto next = offers.begin();
  for (std::size_t i = 0; i < count; ++i) {
    const auto end = next + static_cast<std::ptrdiff_t>(ranks / count + (i < ranks % count ? 1 : 0));
    out.push_back(planner::partition(cost, {next, end}));
    auto& error = out.back().error;
    if (!error.empty() && count > 1) error += ", or ask for fewer --replicas";
    if (!error.empty() && spares > 0) error += ", or fewer of them as spares";
    next = end;
  }
  return out;
}

// `why`: there are so many, where nobody said how many.
std::vector<planner::pipeline_plan> bring_up::plan_all(const std::vector<int>& usable,
                                                       std::string& why) const {
  const auto ranks = usable.size() - spares_of(usable);
  if (wishes_.replicas > 0) return plan_pipelines(usable, std::min<std::size_t>(at(wishes_.replicas), ranks));
  planner::plan_wishes served;
  served.usable_memory = usable_memory;
  served.max_batch = limits_.max_batch;
  served.token_budget = limits_.token_budget;
  served.prompt_tokens = served.answer_tokens = request_tokens;
  const std::vector<int> serving{usable.begin(), usable.begin() + static_cast<std::ptrdiff_t>(ranks)};
  const auto chosen = choose_replicas(leader_, profiles_, wishes_.speeds, serving, served,
                                      static_cast<double>(wishes_.kv_tokens),
                                      [&](std::size_t count) { return plan_pipelines(usable, count); });
  why = chosen.reason;
  return plan_pipelines(usable, chosen.pipelines);
}

// A leader that took over from another leaves what is left of its pipeline in place; one that has several is
// made anew.
std::vector<planner::pipeline_plan> bring_up::plan_first(const std::vector<int>& usable,
                                                         std::string& why) const {
  std::vector<planner::stage_place> said;
  for (const auto rank : usable) {
    const auto& p = profiles_.at(rank);
    said.push_back({rank, p.first_layer, p.last_layer});
  }
  const auto standing = standing_stages(leader_.architecture.layers, std::move(said));
  if (standing.empty()) return plan_all(usable, why);
  const auto cost = cost_of(std::min(limits_.max_context, least_kv_tokens));
  return {planner::plan_again(cost, offers_of(usable), standing)};
}

planner::pipeline_plan bring_up::plan_again(std::size_t pipeline, const std::vector<int>& usable) const {
  if (usable.empty()) return {{}, {}, 0, "no rank would be left"};
  const auto cost = cost_of(std::min(limits_.max_context, least_kv_tokens));
  return planner::plan_again(cost, offers_of(usable), pipelines_.at(pipeline));
}

stage_assignment bring_up::place_in(std::uint32_t epoch) const {
  stage_assignment out;
  out.epoch = epoch;
  out.max_rows = limits_.token_budget;
  out.max_sequences = limits_.max_batch;
  return out;
}

void bring_up::add_stages(const std::vector<planner::stage_place>& stages, std::uint32_t epoch,
                          std::map<int, stage_assignment>& places) const {
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const auto& s = stages[i];
    auto p = place_in(epoch);
    p.first_layer = s.first_layer;
    p.last_layer = s.last_layer;
    p.previous_rank = i == 0 ? -1 : stages[i - 1].rank;
    p.next_rank = i + 1 == stages.size() ? -1 : stages[i + 1].rank;
    places[s.rank] = p;
  }
}

// Where several stages have devices that can be joined, the first of them makes up what they meet under.
std::string bring_up::link(const std::vector<planner::stage_place>& stages,
                           std::map<int, stage_assignment>& places) {
  std::vector<int> ranks;
  std::vector<std::string> devices;
  for (const auto& s : stages) {
    ranks.push_back(s.rank);
    devices.push_back(profiles_.at(s.rank).link_device);
  }
  const auto joined = mpi::linkable(ranks, devices);
  if (joined.empty()) return {};
  std::vector<link_offer> offers;
  auto error = ask(std::vector<int>{joined.front()},
                   std::vector<link_request>{{places.at(joined.front()).epoch}}, answer_deadline, offers);
  if (error.empty() && !offers.front().error.empty())
    error = "rank " + std::to_string(joined.front()) + ": " + offers.front().error;
  if (!error.empty()) return error;
  for (const auto rank : joined) {
    places.at(rank).link_id = offers.front().id;
    places.at(rank).link_ranks = joined;
  }
  return {};
}

// Each spare gets the weights of as many stages as it has room for, the first spare from the first stage of
// the first pipeline on, the next from the stage behind, or of the next pipeline.
void bring_up::hold_ready(const std::vector<int>& spares, std::map<int, stage_assignment>& places) const {
  if (!wishes_.hot_spares) return;
  const auto cost = cost_of(std::min(limits_.max_context, least_kv_tokens));
  std::vector<const std::vector<planner::stage_place>*> pipelines;
  for (const auto& p : pipelines_)
    if (!p.empty()) pipelines.push_back(&p);
  if (pipelines.empty()) return;
  for (std::size_t i = 0; i < spares.size(); ++i) {
    const auto rank = spares[i];
    if (!places.contains(rank)) continue;
    const auto room = usable_memory * static_cast<double>(profiles_.at(rank).memory_bytes);
    auto& place = places.at(rank);
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
    const auto& stages = *pipelines[i % pipelines.size()];
    auto s = i / pipelines.size() % stages.size();
    place.held_first = place.held_last = stages[s].first_layer;
    for (; s < stages.size() && fits(place.held_first, stages[s].last_layer); ++s)
      place.held_last = stages[s].last_layer;
  }
}

std::vector<int> bring_up::without(const std::set<int>& gone) const {
  std::vector<int> out;
  for (std::size_t r = 0; r < nodes_.size(); ++r)
    if (!gone.contains(static_cast<int>(r))) out.push_back(static_cast<int>(r));
  return out;
}

// -1: a spare.
int bring_up::pipeline_of(int rank) const {
  for (std::size_t i = 0; i < pipelines_.size(); ++i)
    for (const auto& s : pipelines_[i])
      if (s.rank == rank) return static_cast<int>(i);
  return -1;
}

std::vector<int> bring_up::spares(const std::set<int>& idle) const {
  auto out = without(idle);
  std::erase_if(out, [this](int rank) { return pipeline_of(rank) >= 0; });
  return out;
}

// The pipeline's own ranks and the spares.
std::vector<int> bring_up::usable_for(std::size_t pipeline, const std::set<int>& idle) const {
  auto out = without(idle);
  std::erase_if(out, [&](int rank) {
    const auto in = pipeline_of(rank);
    return in >= 0 && in != static_cast<int>(pipeline);
  });
  return out;
}

std::string bring_up::objection(std::size_t pipeline, const std::set<int>& gone,
                                const std::set<int>& emptied) const {
  auto idle = gone;
  idle.insert(emptied.begin(), emptied.end());
  return plan_again(pipeline, usable_for(pipeline, idle)).error;
}

engine_layout bring_up::begin(const std::function<std::uint32_t()>& next_epoch, const std::set<int>& gone,
                              const std::set<int>& emptied) {
  engine_layout out;
  const auto living = without(gone);
  if (out.error = ask_profiles(living); !out.error.empty()) return out;
  auto idle = gone;
  idle.insert(emptied.begin(), emptied.end());
  auto usable = without(idle);
  if (usable.empty()) usable = living;  // those that were to be emptied are needed after all

  pipelines_.clear();
  std::map<int, stage_assignment> places;
  std::map<int, pipeline_layout*> pipelines;
  const auto plans = plan_first(usable, out.shape);
  out.pipelines.resize(plans.size());
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (out.error = plans[i].error; !out.error.empty()) return out;
    pipelines_.push_back(plans[i].stages);
    out.pipelines[i].epoch = next_epoch();
    add_stages(plans[i].stages, out.pipelines[i].epoch, places);
    if (out.error = link(plans[i].stages, places); !out.error.empty()) return out;
    pipelines[static_cast<int>(i)] = &out.pipelines[i];
  }
  for (const auto rank : living) places.try_emplace(rank, place_in(out.pipelines.back().epoch));
  hold_ready(spares(idle), places);
  out.error = carry_out(places, pipelines, out.rows);
  if (out.error.empty()) out.limits = out.pipelines.front().limits;
  return out;
}

rebuilt_pipeline bring_up::rebuild(std::size_t pipeline, std::uint32_t epoch, const std::set<int>& gone,
                                   const std::set<int>& emptied, bool last) {
  rebuilt_pipeline out;
  auto idle = gone;
  idle.insert(emptied.begin(), emptied.end());
  auto usable = usable_for(pipeline, idle);
  if (usable.empty() && last) usable = usable_for(pipeline, gone);
  const auto plan = plan_again(pipeline, usable);
  if (out.error = plan.error; !out.error.empty()) return out;

  std::map<int, stage_assignment> places;
  add_stages(plan.stages, epoch, places);
  if (out.error = link(plan.stages, places); !out.error.empty()) return out;
  for (const auto& s : pipelines_[pipeline])
    if (!gone.contains(s.rank)) places.try_emplace(s.rank, place_in(epoch));
  pipelines_[pipeline] = plan.stages;
  hold_ready(spares(idle), places);
  out.pipeline.epoch = epoch;
  out.error = carry_out(places, {{static_cast<int>(pipeline), &out.pipeline}}, out.rows);
  return out;
}

std::vector<rank_row> bring_up::dissolve(std::size_t pipeline, std::uint32_t epoch, const std::set<int>& gone,
                                         const std::set<int>& emptied) {
  auto idle = gone;
  idle.insert(emptied.begin(), emptied.end());
  std::map<int, stage_assignment> places;
  for (const auto& s : pipelines_[pipeline])
    if (!gone.contains(s.rank)) places.emplace(s.rank, place_in(epoch));
  pipelines_[pipeline].clear();
  hold_ready(spares(idle), places);
  std::vector<rank_row> rows;
  carry_out(places, {}, rows);  // one that dies meanwhile is found to be dead
  return rows;
}

// What all stages can hold becomes the pipeline's KV pool. Returns what is wrong.
std::string bring_up::size_memory(pipeline_layout& pipeline, const std::vector<stage_ready>& ready) const {
  auto& limits = pipeline.limits;
  limits.swap = choose_slots(ready, wishes_.swap);
  limits.kv_blocks = choose_blocks(ready, wishes_.kv_tokens, limits, wishes_.swap.memory_bytes);
  if (limits.kv_blocks >= least_kv_blocks) return {};
  if (wishes_.kv_tokens > 0 && scheduler::blocks_for(wishes_.kv_tokens) < least_kv_blocks)
    return "--kv-tokens " + std::to_string(wishes_.kv_tokens) + " is too few: a prompt and its answer need " +
           std::to_string(least_kv_blocks * scheduler::block_tokens) + " at least";
  return no_memory(wishes_);
}

// Has these ranks leave their epochs for the new ones, load their layers and make their stores.
std::string bring_up::carry_out(const std::map<int, stage_assignment>& places,
                                std::map<int, pipeline_layout*> pipelines, std::vector<rank_row>& rows) {
  std::vector<int> ranks;
  std::vector<stage_assignment> orders;
  std::vector<epoch_change> changes;
  for (const auto& [rank, place] : places) {
    ranks.push_back(rank);
    orders.push_back(place);
    changes.push_back({place.epoch});
  }
  if (ranks.empty()) return {};
  std::vector<epoch_ready> begun;
  auto error = ask(ranks, changes, answer_deadline, begun);
  std::vector<stage_ready> ready;
  if (error.empty()) error = ask(ranks, orders, caf::infinite, ready);
  for (const auto& r : ready)
    if (error.empty()) error = r.error;
  if (!error.empty()) return error;

  std::vector<kv_allotment> allotments;
  for (const auto& o : orders) allotments.push_back({o.epoch, 0, 0, 0});
  const auto each_of = [&](int pipeline, const auto& body) {
    for (std::size_t i = 0; i < ranks.size(); ++i)
      if (pipeline_of(ranks[i]) == pipeline) body(i);
  };
  for (const auto& [which, pipeline] : pipelines) {
    pipeline->limits = limits_;
    pipeline->limits.stages = static_cast<std::int32_t>(pipelines_[at(which)].size());
    std::vector<stage_ready> own;
    each_of(which, [&](std::size_t i) { own.push_back(ready[i]); });
    pipeline->limits.ahead = own.size() == 1 && own.front().runs_ahead;
    if (error = size_memory(*pipeline, own); !error.empty()) return error;
    const auto& l = pipeline->limits;
    each_of(which, [&](std::size_t i) {
      allotments[i] = {orders[i].epoch, l.kv_blocks, l.swap.memory_slots, l.swap.disk_slots};
    });
  }
  std::vector<kv_ready> stores;
  error = ask(ranks, allotments, caf::infinite, stores);
  for (const auto& s : stores)
    if (error.empty()) error = s.error;
  if (!error.empty()) return error;

  for (const auto& [which, pipeline] : pipelines) {
    std::vector<kv_ready> own;
    each_of(which, [&](std::size_t i) { own.push_back(stores[i]); });
    set_move_times(pipeline->limits.swap, own);
    for (const auto& s : pipelines_[at(which)]) {
      pipeline->executors.push_back(executors_.at(at(s.rank)));
      pipeline->caches.push_back(caches_.at(at(s.rank)));
      pipeline->stage_ranks.push_back(s.rank);
    }
    pipeline->stands = true;
  }
  const auto cost = cost_of(0);
  const auto share_of = [&](const stage_assignment& p) {
    if (p.first_layer == p.last_layer) return 0.0;
    return (p.last_layer - p.first_layer) * cost.layer + (p.next_rank < 0 ? cost.head : 0.0);
  };
  const auto speeds = relative_speeds(leader_, profiles_, wishes_.speeds, ranks);
  for (std::size_t i = 0; i < ranks.size(); ++i)
    rows.push_back({profiles_.at(ranks[i]), pipeline_of(ranks[i]), orders[i].epoch, orders[i].first_layer,
                    orders[i].last_layer, orders[i].next_rank, ready[i].weight_bytes, ready[i].step_bytes,
                    stores[i].bytes, ready[i].load_ns, ready[i].read_bytes, ready[i].cached_bytes,
                    share_of(orders[i]) / speeds.at(ranks[i]), ready[i].channel});
  return {};
}

}  // namespace fastserve::actors
