#include "scheduler/prefix_cache.hpp"

#include <algorithm>
#include <stdexcept>

namespace fastserve::scheduler {

namespace {

// SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA '14): spreads; equality is checked on the tokens.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

std::span<const std::int32_t> tokens_of_block(std::span<const std::int32_t> tokens, std::size_t block) {
  return tokens.subspan(block * block_tokens, block_tokens);
}

// Whole blocks that a match may take.
std::size_t blocks_within(std::span<const std::int32_t> tokens, std::int32_t max_tokens) {
  return std::min(tokens.size(), static_cast<std::size_t>(std::max(max_tokens, 0))) / block_tokens;
}

}  // namespace

std::uint64_t prefix_cache::key_of(node_id parent, std::uint64_t salt, std::span<const std::int32_t> tokens) {
  auto h = mix(parent * 0x9e3779b97f4a7c15ULL + mix(salt));
  for (const auto t : tokens) h = mix(h + 0x9e3779b97f4a7c15ULL + static_cast<std::uint32_t>(t));
  return h;
}

prefix_cache::node_id prefix_cache::find(node_id parent, std::uint64_t salt, std::uint64_t key,
                                         std::span<const std::int32_t> tokens) const {
  const auto [first, last] = by_key_.equal_range(key);
  for (auto it = first; it != last; ++it) {
    const auto& n = nodes_.at(it->second);
    if (n.parent == parent && n.salt == salt &&
        std::equal(tokens.begin(), tokens.end(), n.tokens.begin(), n.tokens.end()))
      return it->second;
  }
  return 0;
}

prefix_cache::node_id prefix_cache::child(node_id parent, std::uint64_t salt,
                                          std::span<const std::int32_t> tokens) const {
  return find(parent, salt, key_of(parent, salt, tokens), tokens);
}

std::int32_t prefix_cache::peek(std::uint64_t salt, std::span<const std::int32_t> tokens,
                                std::int32_t max_tokens) const {
  const auto blocks = blocks_within(tokens, max_tokens);
  std::size_t found = 0;
  for (node_id at = 0; found < blocks; ++found)
    if ((at = child(at, salt, tokens_of_block(tokens, found))) == 0) break;
  return static_cast<std::int32_t>(found) * block_tokens;
}

void prefix_cache::use(node& n) {
  if (!n.unused) return;
  unused_.erase(n.place);
  n.unused = false;
}

std::int32_t prefix_cache::match(std::uint64_t salt, std::span<const std::int32_t> tokens,
                                 std::int32_t max_tokens, std::vector<std::int32_t>& out) {
  const auto blocks = blocks_within(tokens, max_tokens);
  node_id at = 0;
  std::size_t found = 0;
  for (; found < blocks; ++found) {
    const auto next = child(at, salt, tokens_of_block(tokens, found));
    if (next == 0) break;
    auto& n = nodes_.at(next);
    use(n);
    pool_.retain(n.block);
    out.push_back(n.block);
    at = next;
  }
  asked_tokens_ += tokens.size();
  hit_tokens_ += found * block_tokens;
  return static_cast<std::int32_t>(found) * block_tokens;
}

std::size_t prefix_cache::insert(std::uint64_t salt, std::span<const std::int32_t> tokens,
                                 std::int32_t computed, std::span<const std::int32_t> blocks,
                                 std::size_t known) {
  const auto full = static_cast<std::size_t>(computed) / block_tokens;
  if (known >= full) return known;
  node_id at = 0;
  for (std::size_t i = 0; i < full; ++i) {
    // The chain's own blocks say where it is, so that what was told before is not hashed again.
    if (const auto own = by_block_.find(blocks[i]); i < known && own != by_block_.end()) {
      at = own->second;
      continue;
    }
    const auto content = tokens_of_block(tokens, i);
    const auto key = key_of(at, salt, content);
    if (const auto same = find(at, salt, key, content); same != 0) {
      at = same;  // computed twice: the first copy stays the known one
      continue;
    }
    node n;
    n.parent = at;
    n.salt = salt;
    n.key = key;
    n.block = blocks[i];
    n.tokens.assign(content.begin(), content.end());
    pool_.retain(n.block);
    if (at != 0) ++nodes_.at(at).children;
    const auto id = next_id_++;
    by_key_.emplace(key, id);
    by_block_[n.block] = id;
    nodes_.emplace(id, std::move(n));
    at = id;
  }
  return full;
}

void prefix_cache::released(std::int32_t block) {
  const auto it = by_block_.find(block);
  if (it == by_block_.end() || pool_.references(block) != 1) return;
  auto& n = nodes_.at(it->second);
  if (n.unused) return;
  n.place = unused_.insert(unused_.end(), it->second);
  n.unused = true;
}

std::int32_t prefix_cache::evict(std::int32_t count) {
  std::int32_t freed = 0;
  auto it = unused_.begin();
  while (freed < count && it != unused_.end()) {
    const auto id = *it++;
    if (nodes_.at(id).children > 0) continue;  // its children go first; they are further back
    // A parent whose last child went may stand earlier in the list: begin again from it.
    const auto parent = nodes_.at(id).parent;
    drop(id);
    ++freed;
    if (parent != 0 && nodes_.at(parent).unused && nodes_.at(parent).children == 0) it = unused_.begin();
  }
  return freed;
}

std::int32_t prefix_cache::forget(std::span<const std::int32_t> blocks) {
  std::int32_t forgotten = 0;
  for (auto b = blocks.rbegin(); b != blocks.rend(); ++b) {
    const auto it = by_block_.find(*b);
    if (it == by_block_.end()) continue;
    const auto id = it->second;
    if (nodes_.at(id).children > 0) break;
    drop(id);
    ++forgotten;
  }
  return forgotten;
}

void prefix_cache::drop(node_id id) {
  const auto it = nodes_.find(id);
  auto& n = it->second;
  use(n);
  const auto [first, last] = by_key_.equal_range(n.key);
  by_key_.erase(std::find_if(first, last, [&](const auto& e) { return e.second == id; }));
  by_block_.erase(n.block);
  if (n.parent != 0) --nodes_.at(n.parent).children;
  pool_.release(n.block);
  nodes_.erase(it);
}

void prefix_cache::clear() {
  nodes_.clear();
  by_key_.clear();
  by_block_.clear();
  unused_.clear();
}

void prefix_cache::check_integrity() const {
  std::unordered_map<node_id, std::int32_t> children;
  std::size_t unused = 0;
  for (const auto& [id, n] : nodes_) {
    if (n.parent != 0) {
      if (!nodes_.contains(n.parent)) throw std::logic_error("a cached block has lost its parent");
      ++children[n.parent];
    }
    const auto references = pool_.references(n.block);
    if (references < 1) throw std::logic_error("a cached block is free");
    if (n.unused != (references == 1))
      throw std::logic_error("a cached block is on the wrong side of the list");
    unused += n.unused ? 1 : 0;
    const auto own = by_block_.find(n.block);
    if (own == by_block_.end() || own->second != id) throw std::logic_error("a block is cached twice");
  }
  for (const auto& [id, n] : nodes_) {
    const auto it = children.find(id);
    if (n.children != (it == children.end() ? 0 : it->second))
      throw std::logic_error("a cached block miscounts");
  }
  if (unused != unused_.size() || by_key_.size() != nodes_.size() || by_block_.size() != nodes_.size())
    throw std::logic_error("the prefix cache's tables disagree");
}

}  // namespace fastserve::scheduler
