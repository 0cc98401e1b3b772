#include "model/tokenizer/bpe_merge.hpp"

#include <algorithm>
#include <bit>

namespace fastserve::model {

void merge_table::reserve(std::size_t pairs) { rehash(std::bit_ceil(std::max<std::size_t>(16, pairs * 2))); }

void merge_table::rehash(std::size_t slots) {
  if (slots <= slots_.size()) return;
  std::vector<slot> old(slots);
  old.swap(slots_);
  shift_ = 64 - std::countr_zero(slots);
  used_ = 0;
  for (const slot& entry : old) {
    if (entry.key != free_key) {
      set(static_cast<symbol_id>(entry.key >> 32), static_cast<symbol_id>(entry.key), entry.rule);
    }
  }
}

void merge_table::set(symbol_id left, symbol_id right, merge_rule rule) {
  if ((used_ + 1) * 2 > slots_.size()) rehash(std::max<std::size_t>(16, slots_.size() * 2));
  const std::uint64_t key = key_of(left, right);
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = start_of(key);
  while (slots_[at].key != free_key && slots_[at].key != key) at = (at + 1) & mask;
  if (slots_[at].key == free_key) ++used_;
  slots_[at] = {key, rule};
}

const merge_rule* merge_table::find(symbol_id left, symbol_id right) const {
  if (slots_.empty()) return nullptr;
  const std::uint64_t key = key_of(left, right);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = start_of(key); slots_[at].key != free_key; at = (at + 1) & mask) {
    if (slots_[at].key == key) return &slots_[at].rule;
  }
  return nullptr;
}

namespace {

constexpr std::uint32_t no_rank = ~std::uint32_t{0};
constexpr std::int32_t dead = -2;
constexpr std::int32_t end_of_list = -1;

// Words of at most this many symbols are scanned; longer ones get a heap.
constexpr std::size_t short_symbols = 40;

merge_rule rule_of(const merge_table& table, symbol_id left, symbol_id right) {
  const merge_rule* found = table.find(left, right);
  return found == nullptr ? merge_rule{no_rank, 0} : *found;
}

void merge_short(const merge_table& table, std::vector<symbol_id>& symbols, std::vector<merge_rule>& pairs) {
  std::size_t count = symbols.size();
  pairs.resize(count);
  for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = rule_of(table, symbols[i], symbols[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == no_rank) break;
    symbols[best] = pairs[best].result;
    std::copy(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              symbols.begin() + static_cast<std::ptrdiff_t>(count),
              symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              pairs.begin() + static_cast<std::ptrdiff_t>(count),
              pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    --count;
    if (best > 0) pairs[best - 1] = rule_of(table, symbols[best - 1], symbols[best]);
    if (best + 1 < count) pairs[best] = rule_of(table, symbols[best], symbols[best + 1]);
  }
  symbols.resize(count);
}

class long_merge {
 public:
  long_merge(const merge_table& table, std::vector<symbol_id>& symbols, merge_scratch& scratch)
      : table_(table), symbols_(symbols), nodes_(scratch.nodes), heap_(scratch.heap) {}

  void run() {
    link();
    std::make_heap(heap_.begin(), heap_.end(), later);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const merge_scratch::candidate top = heap_.back();
      heap_.pop_back();
      if (still_there(top)) apply(top);
    }
    symbols_.clear();
    for (const merge_scratch::node& node : nodes_) {
      if (node.next != dead) symbols_.push_back(node.symbol);
    }
  }

 private:
  static bool later(const merge_scratch::candidate& a, const merge_scratch::candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  }

  void link() {
    const auto count = static_cast<std::int32_t>(symbols_.size());
    nodes_.resize(symbols_.size());
    heap_.clear();
    for (std::int32_t i = 0; i < count; ++i) {
      nodes_[static_cast<std::size_t>(i)] = {symbols_[static_cast<std::size_t>(i)], i - 1,
                                             i + 1 < count ? i + 1 : end_of_list};
    }
    for (std::int32_t i = 0; i + 1 < count; ++i) offer(i, false);
  }

  // Adds the pair that starts at a node, if it has a rule.
  void offer(std::int32_t at, bool ordered) {
    const merge_scratch::node& left = nodes_[static_cast<std::size_t>(at)];
    const merge_scratch::node& right = nodes_[static_cast<std::size_t>(left.next)];
    const merge_rule* rule = table_.find(left.symbol, right.symbol);
    if (rule == nullptr) return;
    heap_.push_back({rule->rank, at, rule->result});
    if (ordered) std::push_heap(heap_.begin(), heap_.end(), later);
  }

  bool still_there(const merge_scratch::candidate& top) const {
    const merge_scratch::node& left = nodes_[static_cast<std::size_t>(top.at)];
    if (left.next < 0) return false;
    const merge_rule* rule = table_.find(left.symbol, nodes_[static_cast<std::size_t>(left.next)].symbol);
    return rule != nullptr && rule->result == top.result;
  }

  void apply(const merge_scratch::candidate& top) {
    merge_scratch::node& left = nodes_[static_cast<std::size_t>(top.at)];
    merge_scratch::node& right = nodes_[static_cast<std::size_t>(left.next)];
    left.symbol = top.result;
    left.next = right.next;
    right.next = dead;
    if (left.next >= 0) nodes_[static_cast<std::size_t>(left.next)].previous = top.at;
    if (left.previous >= 0) offer(left.previous, true);
    if (left.next >= 0) offer(top.at, true);
  }

  const merge_table& table_;
  std::vector<symbol_id>& symbols_;
  std::vector<merge_scratch::node>& nodes_;
  std::vector<merge_scratch::candidate>& heap_;
};

}  // namespace

void merge_symbols(const merge_table& table, std::vector<symbol_id>& symbols, merge_scratch& scratch) {
  if (symbols.size() < 2) return;
  if (symbols.size() <= short_symbols) {
    merge_short(table, symbols, scratch.pairs);
  } else {
    long_merge(table, symbols, scratch).run();
  }
}

}  // namespace fastserve::model
