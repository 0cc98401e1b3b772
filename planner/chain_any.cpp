#include <algorithm>
#include <deque>
#include <numeric>
#include <optional>

#include "planner/chain_parts.hpp"

namespace fastserve::planner {

namespace {

constexpr std::size_t tried_in_all_orders = 6;
constexpr double clearly_less = 1e-11;    // more than the hair that room() gives
constexpr std::size_t tried_starts = 16;  // groups that a tour begins at

double least_hop(const chain_problem& p) {
  double least = infinite;
  std::vector<std::size_t> members(p.groups);
  for (const auto& r : p.ranks) ++members[r.group];
  for (std::size_t a = 0; a < p.groups; ++a)
    for (std::size_t b = 0; b < p.groups; ++b)
      if (members[a] > 0 && members[b] > 0 && (a != b || members[a] > 1))
        least = std::min(least, p.hops[a * p.groups + b]);
  return least == infinite ? 0 : least;
}

// Who is first, who is last, and who is between them, under a bound. Only rooms count.
class line_up {
 public:
  line_up(const chain_problem& p, std::size_t most_stages, double hop, std::size_t must)
      : p_{p}, most_{most_stages}, hop_{hop}, must_{must}, middle_(p.ranks.size()) {}

  /// True when the layers fit under `bound`; then path() has the ranks.
  bool fits(double bound) {
    const auto n = p_.ranks.size();
    path_.clear();
    for (std::size_t r = 0; r < n; ++r)
      if ((must_ == nobody || must_ == r) && room(p_, r, bound, true, true) >= p_.layers) {
        path_ = {r};
        return true;
      }
    if (most_ < 2 || hop_ > bound) return false;
    for (std::size_t r = 0; r < n; ++r) middle_[r] = room(p_, r, bound, false, false);
    sorted_.resize(n);
    std::iota(sorted_.begin(), sorted_.end(), std::size_t{0});
    const auto better = [&](std::size_t a, std::size_t b) {
      if ((a == must_) != (b == must_)) return a == must_;
      return middle_[a] != middle_[b] ? middle_[a] > middle_[b] : a < b;
    };
    const auto kept = std::min(most_, n);  // between first and last are most - 2, so these do
    std::partial_sort(sorted_.begin(), sorted_.begin() + static_cast<std::ptrdiff_t>(kept), sorted_.end(),
                      better);
    best_sum_.assign(1, 0);
    for (std::size_t i = 0; i < kept; ++i) best_sum_.push_back(best_sum_.back() + middle_[sorted_[i]]);
    const auto first = candidates(bound, kept, true);
    const auto last = candidates(bound, kept, false);
    for (const auto& f : first)
      for (const auto& h : last)
        if (f.rank != h.rank && f.room + h.room + most_between(f.place, h.place) >= p_.layers &&
            try_pair(f, h, kept))
          return true;
    return false;
  }
  const std::vector<std::size_t>& path() const { return path_; }

 private:
  struct candidate {
    std::size_t rank;
    std::size_t place;  // in sorted_
    std::int32_t room;
  };
  // Those among the first `kept`, and of the rest, who would be in nobody's place between, the best two.
  std::vector<candidate> candidates(double bound, std::size_t kept, bool embeds) const {
    std::vector<candidate> out, rest;
    for (std::size_t i = 0; i < sorted_.size(); ++i) {
      const auto n = room(p_, sorted_[i], bound, embeds, !embeds);
      if (n > 0) (i < kept ? out : rest).push_back({sorted_[i], i, n});
    }
    const auto two = std::min<std::size_t>(rest.size(), 2);
    std::partial_sort(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(two), rest.end(),
                      [](const auto& a, const auto& b) { return a.room > b.room; });
    out.insert(out.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(two));
    return out;
  }
  // The room of the best most_ - 2 ranks but those at the places a and b.
  std::int64_t most_between(std::size_t a, std::size_t b) const {
    auto end = most_ - 2;
    std::int64_t without = 0;
    for (const auto place : {std::min(a, b), std::max(a, b)})
      if (place < end) {
        ++end;
        without += middle_[sorted_[place]];
      }
    return best_sum_[std::min(end, best_sum_.size() - 1)] - without;
  }
  bool try_pair(const candidate& f, const candidate& h, std::size_t kept) {
    std::int64_t sum = std::int64_t{f.room} + h.room;
    auto left = most_ - 2;
    bool has_must = must_ == nobody || f.rank == must_ || h.rank == must_;
    std::size_t i = 0;
    for (; i < kept && left > 0 && (sum < p_.layers || !has_must); ++i) {
      if (i == f.place || i == h.place) continue;
      if (middle_[sorted_[i]] == 0) break;
      has_must = has_must || sorted_[i] == must_;
      sum += middle_[sorted_[i]];
      --left;
    }
    if (sum < p_.layers || !has_must) return false;
    path_ = {f.rank};
    std::vector<std::size_t> between;
    for (std::size_t j = 0; j < i; ++j)
      if (j != f.place && j != h.place) between.push_back(sorted_[j]);
    std::sort(between.begin(), between.end());
    path_.insert(path_.end(), between.begin(), between.end());
    path_.push_back(h.rank);
    // With few layers not every rank of the path may be needed; each must have one.
    return path_.size() <= static_cast<std::size_t>(p_.layers);
  }

  const chain_problem& p_;
  std::size_t most_;
  double hop_;
  std::size_t must_;
  std::vector<std::int32_t> middle_;
  std::vector<std::size_t> sorted_;
  std::vector<std::int64_t> best_sum_;  // [i]: room of the first i of sorted_ between others
  std::vector<std::size_t> path_;
};

std::size_t stages_of(const chain_problem& p, std::int32_t most) {
  const auto all = std::min<std::size_t>(p.ranks.size(), static_cast<std::size_t>(p.layers));
  return most > 0 ? std::min(all, static_cast<std::size_t>(most)) : all;
}

chain_cut equal_slowest(const chain_problem& p, std::int32_t most_stages) {
  line_up who{p, stages_of(p, most_stages), least_hop(p), nobody};
  const auto bound = least_bound(p, [&](double b) { return who.fits(b); });
  if (bound == infinite || !who.fits(bound)) return {};
  return fill(p, who.path(), bound);
}

// Dynamic programming over the ranks one after the other: done[m][l] is the least time of l layers, with the
// embedding among them when m has bit 0, the head with bit 1. Who computes what order does not matter to the
// sum.
chain_cut equal_sum(const chain_problem& p) {
  const auto n = p.ranks.size();
  const auto width = static_cast<std::size_t>(p.layers) + 1;
  const auto hop = least_hop(p);
  struct choice {
    std::int32_t layers = 0;  // of this rank; 0 = left out
    std::uint8_t before = 0;  // m without it
  };
  std::vector<double> done(4 * width, infinite), next;
  std::vector<choice> chosen(n * 4 * width);
  done[0] = 0;
  for (std::size_t r = 0; r < n; ++r) {
    next = done;
    for (std::size_t m = 0; m < 4; ++m)
      for (std::size_t l = 0; l < width; ++l)
        chosen[(r * 4 + m) * width + l] = {0, static_cast<std::uint8_t>(m)};
    const auto& time = p.ranks[r].time;
    for (std::size_t m = 0; m < 4; ++m)
      for (std::size_t add = 0; add < 4; ++add) {
        if ((m & add) != 0) continue;
        const bool embeds = (add & 1U) != 0, heads = (add & 2U) != 0;
        const auto most = room(p, r, infinite, embeds, heads);
        if (most == 0) continue;
        if (embeds && heads) {  // then it has all layers
          const auto alone = time.seconds(p.layers, true, true) + hop;
          if (most >= p.layers && alone < next[3 * width + width - 1]) {
            next[3 * width + width - 1] = alone;
            chosen[(r * 4 + 3) * width + width - 1] = {p.layers, 0};
          }
          continue;
        }
        const double* from = &done[m * width];
        double* to = &next[(m | add) * width];
        std::deque<std::size_t> window;
        const auto value = [&](std::size_t l) { return from[l] - static_cast<double>(l) * time.layer; };
        for (std::size_t l = 1; l < width; ++l) {
          while (!window.empty() && value(window.back()) >= value(l - 1)) window.pop_back();
          if (from[l - 1] < infinite) window.push_back(l - 1);
          while (!window.empty() && l - window.front() > static_cast<std::size_t>(most)) window.pop_front();
          if (window.empty()) continue;
          const auto count = l - window.front();
          const auto cost =
              from[window.front()] + hop + time.seconds(static_cast<double>(count), embeds, heads);
          if (cost < to[l]) {
            to[l] = cost;
            chosen[(r * 4 + (m | add)) * width + l] = {static_cast<std::int32_t>(count),
                                                       static_cast<std::uint8_t>(m)};
          }
        }
      }
    done.swap(next);
  }
  if (done[3 * width + width - 1] == infinite) return {};
  std::vector<std::pair<std::size_t, std::int32_t>> middle;
  std::pair<std::size_t, std::int32_t> first{nobody, 0}, last{nobody, 0};
  std::size_t m = 3, l = width - 1;
  for (auto r = n; r-- > 0;) {
    const auto c = chosen[(r * 4 + m) * width + l];
    if (c.layers == 0) continue;
    const auto add = m & ~std::size_t{c.before};
    if ((add & 1U) != 0) first = {r, c.layers};
    if ((add & 2U) != 0) last = {r, c.layers};
    if (add == 0) middle.emplace_back(r, c.layers);
    m = c.before;
    l -= static_cast<std::size_t>(c.layers);
  }
  chain_cut out;
  std::int32_t at = 0;
  const auto put = [&](const std::pair<std::size_t, std::int32_t>& s) {
    out.stages.push_back({s.first, at, at + s.second});
    at += s.second;
  };
  put(first);
  std::reverse(middle.begin(), middle.end());
  for (const auto& s : middle) put(s);
  if (last.first != first.first) put(last);
  judge(p, out);
  return out;
}

bool better(const chain_cut& a, const chain_cut& b, chain_goal goal) {
  if (!a.found() || !b.found()) return a.found();
  const auto first = goal == chain_goal::slowest ? a.slowest - b.slowest : a.sum - b.sum;
  if (first != 0) return first < 0;
  return goal == chain_goal::slowest ? a.sum < b.sum : a.slowest < b.slowest;
}

// The best cut of the orders of `ranks`, or of some of them, that it is shown.
class best_order {
 public:
  best_order(const chain_problem& p, const std::vector<std::size_t>& ranks, chain_goal goal)
      : p_{p}, ranks_{ranks}, goal_{goal} {}

  void consider(const std::vector<std::size_t>& order) {
    if (goal_ == chain_goal::sum || !best_.found()) return take(cut_in_order(p_, order, goal_));
    if (!at_) {
      at_.emplace(p_, ranks_, best_.slowest);
      below_.emplace(p_, ranks_, best_.slowest * (1 - clearly_less));
    }
    take(cut_within(p_, order, *at_, *below_));
  }
  chain_cut& best() { return best_; }

 private:
  void take(chain_cut cut) {
    if (!better(cut, best_, goal_)) return;
    if (cut.slowest != best_.slowest) at_.reset();
    best_ = std::move(cut);
  }

  const chain_problem& p_;
  const std::vector<std::size_t>& ranks_;
  chain_goal goal_;
  chain_cut best_;
  std::optional<rooms> at_, below_;  // of best_
};

chain_cut all_orders(const chain_problem& p, chain_goal goal) {
  std::vector<std::size_t> order(p.ranks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  best_order found{p, order, goal};
  // Not more ranks than layers: each leading part of each order stands for a choice of them.
  const auto used = static_cast<std::ptrdiff_t>(stages_of(p, 0));
  do {
    found.consider({order.begin(), order.begin() + used});
  } while (std::next_permutation(order.begin(), order.end()));
  return std::move(found.best());
}

// Groups one after the other, each time the nearest that is left, then parts of the tour turned round while
// that shortens it.
std::vector<std::size_t> tour(const chain_problem& p, std::vector<std::size_t> left, std::size_t start) {
  std::vector<std::size_t> out{start};
  std::erase(left, start);
  const auto hop = [&](std::size_t a, std::size_t b) { return p.hops[a * p.groups + b]; };
  while (!left.empty()) {
    const auto nearest = std::min_element(left.begin(), left.end(), [&](std::size_t a, std::size_t b) {
      return hop(out.back(), a) < hop(out.back(), b);
    });
    out.push_back(*nearest);
    left.erase(nearest);
  }
  const auto length = [&] {
    double sum = 0;
    for (std::size_t i = 1; i < out.size(); ++i) sum += hop(out[i - 1], out[i]);
    return sum;
  };
  constexpr std::size_t most_turned = 64;
  if (out.size() > most_turned) return out;
  for (bool shorter = true; shorter;) {
    shorter = false;
    for (std::size_t i = 0; i + 1 < out.size(); ++i)
      for (std::size_t j = i + 1; j < out.size(); ++j) {
        const auto before = length();
        const auto turn = [&] {
          std::reverse(out.begin() + static_cast<std::ptrdiff_t>(i),
                       out.begin() + static_cast<std::ptrdiff_t>(j) + 1);
        };
        turn();
        if (length() < before * (1 - 1e-12))
          shorter = true;
        else
          turn();
      }
  }
  return out;
}

chain_cut along_tours(const chain_problem& p, const std::vector<std::size_t>& ranks, chain_goal goal) {
  std::vector<std::vector<std::size_t>> members(p.groups);
  for (const auto r : ranks) members[p.ranks[r].group].push_back(r);
  std::vector<std::size_t> groups;
  for (std::size_t g = 0; g < p.groups; ++g)
    if (!members[g].empty()) groups.push_back(g);
  best_order found{p, ranks, goal};
  for (std::size_t s = 0; s < std::min(groups.size(), tried_starts); ++s) {
    std::vector<std::size_t> order;
    for (const auto g : tour(p, groups, groups[s]))
      order.insert(order.end(), members[g].begin(), members[g].end());
    for (int way = 0; way < 2; ++way) {
      found.consider(order);
      std::reverse(order.begin(), order.end());
    }
  }
  return std::move(found.best());
}

chain_cut equal_cut(const chain_problem& p, std::int32_t most_stages, chain_goal goal) {
  return goal == chain_goal::slowest ? equal_slowest(p, most_stages) : equal_sum(p);
}

}  // namespace

chain_cut cut_any_order(const chain_problem& p, std::int32_t most_stages, chain_goal goal) {
  if (p.ranks.empty() || p.layers < 1) return {};
  if (p.equal_hops()) return equal_cut(p, most_stages, goal);
  if (p.ranks.size() <= tried_in_all_orders) return all_orders(p, goal);

  chain_cut best;
  std::vector<std::size_t> chosen;
  for (const auto& s : equal_cut(p, most_stages, goal).stages) chosen.push_back(s.rank);
  if (!chosen.empty()) best = along_tours(p, chosen, goal);

  // Each group alone, the largest first.
  std::vector<std::vector<std::size_t>> members(p.groups);
  for (std::size_t r = 0; r < p.ranks.size(); ++r) members[p.ranks[r].group].push_back(r);
  std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  for (std::size_t g = 0; g < std::min(members.size(), tried_starts) && !members[g].empty(); ++g) {
    auto part = p;
    part.ranks.clear();
    for (const auto r : members[g]) part.ranks.push_back(p.ranks[r]);
    auto cut = equal_cut(part, most_stages, goal);
    for (auto& s : cut.stages) s.rank = members[g][s.rank];
    if (better(cut, best, goal)) best = std::move(cut);
  }
  return best;
}

double slowest_with(const chain_problem& p, std::int32_t most_stages, std::size_t with) {
  line_up who{p, stages_of(p, most_stages), least_hop(p), with};
  const auto bound = least_bound(p, [&](double b) { return who.fits(b); });
  if (bound == infinite || !who.fits(bound)) return infinite;
  return fill(p, who.path(), bound).slowest;
}

}  // namespace fastserve::planner
