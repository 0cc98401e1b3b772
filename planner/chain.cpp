#include "planner/chain.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <deque>
#include <queue>

#include "planner/chain_parts.hpp"

namespace fastserve::planner {

namespace {

struct reached {
  std::vector<std::int32_t> layers;  // that end with this rank of the order, as neither first nor last
  std::vector<std::size_t> before;   // the rank of the order in front of it
  std::size_t last = nobody;         // who takes the rest and the head
  std::size_t before_last = nobody;
};

// How far one gets under a bound. More is always better: surplus layers are given back at the end.
reached reach(const chain_problem& p, const std::vector<std::size_t>& order, const rooms& under) {
  const auto n = order.size();
  reached out{std::vector<std::int32_t>(n, 0), std::vector<std::size_t>(n, nobody), nobody, nobody};
  for (std::size_t i = 0; i < n; ++i) {
    const auto& own = under.of[order[i]];
    if (own.alone >= p.layers) {
      out.last = i;
      return out;
    }
    out.layers[i] = std::min(own.first, p.layers - 1);
    for (std::size_t j = 0; j < i; ++j) {
      if (out.layers[j] == 0 || p.hop(order[j], order[i]) > under.bound) continue;
      if (own.last > 0 && out.layers[j] + own.last >= p.layers) {
        out.last = i;
        out.before_last = j;
        return out;
      }
      const auto together = std::min(out.layers[j] + own.between, p.layers - 1);
      if (own.between > 0 && together > out.layers[i]) {
        out.layers[i] = together;
        out.before[i] = j;
      }
    }
  }
  return out;
}

chain_cut along(const chain_problem& p, const std::vector<std::size_t>& order, const reached& r,
                double bound) {
  std::vector<std::size_t> path{order[r.last]};
  for (auto i = r.before_last; i != nobody; i = r.before[i]) path.push_back(order[i]);
  std::reverse(path.begin(), path.end());
  return fill(p, path, bound);
}

chain_cut cut_slowest(const chain_problem& p, const std::vector<std::size_t>& order, double known) {
  const auto bound = least_bound(
      p,
      [&](double b) {
        return reach(p, order, rooms{p, order, b}).last != nobody;
      },
      known);
  if (bound == infinite) return {};
  return along(p, order, reach(p, order, rooms{p, order, bound}), bound);
}

// Dynamic programming: best[i][l] when the first l layers end with rank i of the order.
chain_cut cut_sum(const chain_problem& p, const std::vector<std::size_t>& order) {
  const auto n = order.size();
  const auto width = static_cast<std::size_t>(p.layers) + 1;
  std::vector<std::vector<double>> best(n, std::vector<double>(width, infinite));
  struct origin {
    std::int32_t layers = 0;
    std::size_t before = nobody;
  };
  std::vector<std::vector<origin>> from(n, std::vector<origin>(width));
  double least = infinite;
  origin end;
  std::size_t last = nobody;
  std::vector<double> reach(width);
  std::vector<std::size_t> who(width);
  for (std::size_t i = 0; i < n; ++i) {
    const auto& time = p.ranks[order[i]].time;
    // The least cost to have l layers done and the activations at this rank.
    std::fill(reach.begin(), reach.end(), infinite);
    std::fill(who.begin(), who.end(), nobody);
    for (std::size_t j = 0; j < i; ++j) {
      const auto hop = p.hop(order[j], order[i]);
      for (std::size_t l = 1; l < width; ++l)
        if (best[j][l] + hop < reach[l]) {
          reach[l] = best[j][l] + hop;
          who[l] = j;
        }
    }
    const auto from_start = room(p, order[i], infinite, true, false);
    const auto as_middle = room(p, order[i], infinite, false, false);
    const auto as_last = room(p, order[i], infinite, false, true);
    for (std::int32_t l = 1; l < p.layers; ++l) {
      const auto to = static_cast<std::size_t>(l);
      if (l <= from_start) {
        best[i][to] = time.seconds(l, true, false);
        from[i][to] = {l, nobody};
      }
    }
    std::deque<std::int32_t> window;  // of starts, the best value of reach - start * layer in front
    const auto value = [&](std::int32_t l) { return reach[static_cast<std::size_t>(l)] - l * time.layer; };
    for (std::int32_t l = 2; l < p.layers; ++l) {
      while (!window.empty() && value(window.back()) >= value(l - 1)) window.pop_back();
      window.push_back(l - 1);
      while (!window.empty() && l - window.front() > as_middle) window.pop_front();
      if (window.empty()) continue;
      const auto start = window.front();
      const auto cost = reach[static_cast<std::size_t>(start)] + time.seconds(l - start, false, false);
      if (cost < best[i][static_cast<std::size_t>(l)]) {
        best[i][static_cast<std::size_t>(l)] = cost;
        from[i][static_cast<std::size_t>(l)] = {l - start, who[static_cast<std::size_t>(start)]};
      }
    }
    if (room(p, order[i], infinite, true, true) >= p.layers && time.seconds(p.layers, true, true) < least) {
      least = time.seconds(p.layers, true, true);
      end = {p.layers, nobody};
      last = i;
    }
    for (std::int32_t count = 1; count <= std::min(as_last, p.layers - 1); ++count) {
      const auto start = static_cast<std::size_t>(p.layers - count);
      const auto cost = reach[start] + time.seconds(count, false, true);
      if (cost < least) {
        least = cost;
        end = {count, who[start]};
        last = i;
      }
    }
  }
  chain_cut out;
  if (last == nobody) return out;
  auto to = p.layers;
  for (auto i = last;;) {
    out.stages.push_back({order[i], to - end.layers, to});
    to -= end.layers;
    i = end.before;
    if (i == nobody) break;
    end = from[i][static_cast<std::size_t>(to)];
  }
  std::reverse(out.stages.begin(), out.stages.end());
  judge(p, out);
  return out;
}

}  // namespace

std::int32_t room(const chain_problem& p, std::size_t rank, double bound, bool embeds, bool heads) {
  const auto& r = p.ranks[rank];
  double most = p.layers;
  const auto left = r.memory_bytes - p.bytes(0, embeds, heads);
  if (left < 0) return 0;
  if (p.layer_bytes > 0) most = std::min(most, std::floor(left / p.layer_bytes));
  if (bound < infinite) {
    const auto time = bound - r.time.seconds(0, embeds, heads);
    if (time < 0) return 0;
    // A hair more, lest a bound that is a stage's own time falls short of it.
    if (r.time.layer > 0) most = std::min(most, std::floor(time / r.time.layer * (1 + 1e-12) + 1e-12));
  }
  return static_cast<std::int32_t>(most);
}

rooms::rooms(const chain_problem& p, const std::vector<std::size_t>& ranks, double b)
    : bound{b}, of(p.ranks.size()) {
  for (const auto r : ranks)
    of[r] = {room(p, r, b, false, false), room(p, r, b, true, false), room(p, r, b, false, true),
             room(p, r, b, true, true)};
}

chain_cut cut_within(const chain_problem& p, const std::vector<std::size_t>& order, const rooms& at,
                     const rooms& below) {
  const auto r = reach(p, order, at);
  if (r.last == nobody) return {};
  if (reach(p, order, below).last != nobody) return cut_slowest(p, order, below.bound);
  return along(p, order, r, at.bound);
}

double least_bound(const chain_problem& p, const std::function<bool(double)>& feasible, double known) {
  auto high = known;
  if (known == infinite) {
    if (!feasible(infinite)) return infinite;
    high = 0;
    for (const auto& r : p.ranks) high = std::max(high, r.time.seconds(p.layers, true, true));
    for (const auto h : p.hops) high = std::max(high, h);
    if (high == 0 || !feasible(high)) return high == 0 ? 0 : infinite;
  }
  double low = 0;
  for (int i = 0; i < 100 && high - low > 1e-13 * high; ++i) {
    const auto middle = low + (high - low) / 2;
    (feasible(middle) ? high : low) = middle;
  }
  return high;
}

chain_cut fill(const chain_problem& p, const std::vector<std::size_t>& path, double bound) {
  const auto n = path.size();
  std::vector<std::int32_t> count(n, 1);
  const auto time = [&](std::size_t i, std::int32_t layers) {
    return p.ranks[path[i]].time.seconds(layers, i == 0, i + 1 == n);
  };
  using entry = std::pair<double, std::size_t>;
  std::priority_queue<entry, std::vector<entry>, std::greater<>> next;
  for (std::size_t i = 0; i < n; ++i)
    if (room(p, path[i], bound, i == 0, i + 1 == n) > 1) next.emplace(time(i, 2), i);
  for (auto left = p.layers - static_cast<std::int32_t>(n); left > 0 && !next.empty(); --left) {
    const auto i = next.top().second;
    next.pop();
    ++count[i];
    if (count[i] < room(p, path[i], bound, i == 0, i + 1 == n)) next.emplace(time(i, count[i] + 1), i);
  }
  chain_cut out;
  std::int32_t first = 0;
  for (std::size_t i = 0; i < n; ++i) {
    out.stages.push_back({path[i], first, first + count[i]});
    first += count[i];
  }
  assert(first == p.layers);
  judge(p, out);
  return out;
}

void judge(const chain_problem& p, chain_cut& cut) {
  cut.slowest = cut.sum = 0;
  for (std::size_t i = 0; i < cut.stages.size(); ++i) {
    const auto& s = cut.stages[i];
    const auto t = p.ranks[s.rank].time.seconds(s.last - s.first, i == 0, i + 1 == cut.stages.size());
    const auto hop = i > 0 ? p.hop(cut.stages[i - 1].rank, s.rank) : 0.0;
    cut.slowest = std::max({cut.slowest, t, hop});
    cut.sum += t + hop;
  }
}

bool chain_problem::equal_hops() const {
  std::vector<std::size_t> members(groups);
  for (const auto& r : ranks) ++members[r.group];
  double found = -1;
  for (std::size_t a = 0; a < groups; ++a)
    for (std::size_t b = 0; b < groups; ++b) {
      if (members[a] == 0 || members[b] == 0 || (a == b && members[a] < 2)) continue;
      const auto h = hops[a * groups + b];
      if (found < 0) found = h;
      if (h != found) return false;
    }
  return true;
}

chain_cut cut_in_order(const chain_problem& p, const std::vector<std::size_t>& order, chain_goal goal) {
  assert(order.size() <= static_cast<std::size_t>(p.layers));
  if (order.empty() || p.layers < 1) return {};
  return goal == chain_goal::slowest ? cut_slowest(p, order, infinite) : cut_sum(p, order);
}

}  // namespace fastserve::planner
