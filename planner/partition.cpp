#include "planner/partition.hpp"

#include <algorithm>
#include <cassert>

#include "planner/chain_parts.hpp"

namespace fastserve::planner {

namespace {

std::string mebibytes(double bytes) {
  return std::to_string(static_cast<long long>(bytes / (1024.0 * 1024.0) + 0.5)) + " MiB";
}

struct chain {
  const model_cost& model;
  const std::vector<rank_offer>& ranks;

  std::size_t bytes(std::int32_t first, std::int32_t last) const {
    auto b = static_cast<std::size_t>(last - first) * (model.layer_bytes + model.kv_layer_bytes);
    if (first == 0) b += model.embedding_bytes;
    if (last == model.layers) b += model.head_bytes;
    return b;
  }
  double time(std::size_t rank, std::int32_t first, std::int32_t last) const {
    if (bytes(first, last) > ranks[rank].memory_bytes) return infinite;
    auto cost = static_cast<double>(last - first) * model.layer;
    if (first == 0) cost += model.embedding;
    if (last == model.layers) cost += model.head;
    return cost / ranks[rank].speed;
  }
};

}  // namespace

pipeline_plan partition(const model_cost& model, const std::vector<rank_offer>& ranks) {
  assert(model.layers > 0 && !ranks.empty());
  const chain of{model, ranks};
  const auto layers = model.layers;
  const auto stages = std::min<std::size_t>(ranks.size(), static_cast<std::size_t>(layers));
  const auto width = static_cast<std::size_t>(layers) + 1;

  // best[s][l]: least possible slowest stage when the first s stages hold the first l layers.
  std::vector<std::vector<double>> best(stages + 1, std::vector<double>(width, infinite));
  std::vector<std::vector<std::int32_t>> cut(stages + 1, std::vector<std::int32_t>(width, 0));
  best[0][0] = 0;
  for (std::size_t s = 1; s <= stages; ++s)
    for (std::int32_t last = 1; last <= layers; ++last)
      for (std::int32_t first = 0; first < last; ++first) {
        const auto before = best[s - 1][static_cast<std::size_t>(first)];
        if (before == infinite) continue;
        const auto t = std::max(before, of.time(s - 1, first, last));
        // On a tie the later cut wins: earlier stages take the odd layers, the last one has the sampling too.
        if (t <= best[s][static_cast<std::size_t>(last)] && t < infinite) {
          best[s][static_cast<std::size_t>(last)] = t;
          cut[s][static_cast<std::size_t>(last)] = first;
        }
      }

  pipeline_plan out;
  if (best[stages][static_cast<std::size_t>(layers)] == infinite) {
    double have = 0;
    for (std::size_t s = 0; s < stages; ++s) have += static_cast<double>(ranks[s].memory_bytes);
    out.error = "the model does not fit: it needs " + mebibytes(static_cast<double>(of.bytes(0, layers))) +
                " in " + std::to_string(stages) + (stages == 1 ? " rank" : " ranks") + ", which offer " +
                mebibytes(have) + " together; start more ranks on more nodes";
    return out;
  }
  out.slowest = best[stages][static_cast<std::size_t>(layers)];
  auto last = layers;
  for (auto s = stages; s > 0; --s) {
    const auto first = cut[s][static_cast<std::size_t>(last)];
    out.stages.insert(out.stages.begin(), {ranks[s - 1].rank, first, last});
    last = first;
  }
  for (auto s = stages; s < ranks.size(); ++s) out.spares.push_back(ranks[s].rank);
  return out;
}

pipeline_plan plan_again(const model_cost& model, const std::vector<rank_offer>& ranks,
                         const std::vector<stage_place>& before) {
  const chain of{model, ranks};
  const auto index_of = [&](int rank) {
    return static_cast<std::size_t>(
        std::find_if(ranks.begin(), ranks.end(), [&](const rank_offer& r) { return r.rank == rank; }) -
        ranks.begin());
  };
  std::vector<bool> taken(ranks.size());
  for (const auto& s : before)
    if (const auto i = index_of(s.rank); i < ranks.size()) taken[i] = true;

  pipeline_plan out;
  out.stages = before;
  for (auto& s : out.stages) {
    auto i = index_of(s.rank);
    if (i == ranks.size()) {
      // The fastest that can hold the layers; the first of equals.
      for (std::size_t j = 0; j < ranks.size(); ++j) {
        if (taken[j] || of.time(j, s.first_layer, s.last_layer) == infinite) continue;
        if (i == ranks.size() || ranks[j].speed > ranks[i].speed) i = j;
      }
      if (i == ranks.size()) return partition(model, ranks);
      taken[i] = true;
      s.rank = ranks[i].rank;
    }
    out.slowest = std::max(out.slowest, of.time(i, s.first_layer, s.last_layer));
  }
  for (std::size_t i = 0; i < ranks.size(); ++i)
    if (!taken[i]) out.spares.push_back(ranks[i].rank);
  return out;
}

}  // namespace fastserve::planner
