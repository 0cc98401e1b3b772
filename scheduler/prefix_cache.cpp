#include "scheduler/prefix_cache.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

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

std::optional<std::uint64_t> prefix_cache::first_key(std::uint64_t salt,
                                                     std::span<const std::int32_t> tokens) {
  if (tokens.size() < block_tokens) return std::nullopt;
  return key_of(root, salt, tokens_of_block(tokens, 0));
}

prefix_cache::node_id prefix_cache::find(node_id parent, std::uint64_t salt, std::uint64_t key,
                                         std::span<const std::int32_t> tokens) const {
  if (buckets_.empty()) return root;
  for (auto id = buckets_[key & (buckets_.size() - 1)]; id != root; id = nodes_[id].next) {
    const auto& n = nodes_[id];
    if (n.key == key && n.parent == parent && n.salt == salt &&
        std::equal(tokens.begin(), tokens.end(), n.tokens.begin(), n.tokens.end()))
      return id;
  }
  return root;
}

prefix_cache::node_id prefix_cache::child(node_id parent, std::uint64_t salt,
                                          std::span<const std::int32_t> tokens) const {
  return find(parent, salt, key_of(parent, salt, tokens), tokens);
}

std::int32_t prefix_cache::peek(std::uint64_t salt, std::span<const std::int32_t> tokens,
                                std::int32_t max_tokens) const {
  const auto blocks = blocks_within(tokens, max_tokens);
  std::size_t found = 0;
  for (node_id at = root; found < blocks; ++found)
    if ((at = child(at, salt, tokens_of_block(tokens, found))) == root) break;
  return static_cast<std::int32_t>(found) * block_tokens;
}

prefix_cache::node_id prefix_cache::node_of(std::int32_t block) const {
  const auto at = static_cast<std::size_t>(block);
  return at < by_block_.size() ? by_block_[at] : root;
}

// As many buckets as nodes, at least.
void prefix_cache::widen() {
  if (size_ < buckets_.size()) return;
  buckets_.assign(std::max<std::size_t>(2 * buckets_.size(), 64), root);
  for (node_id id = 1; id < nodes_.size(); ++id) {
    if (nodes_[id].block < 0) continue;
    auto& head = buckets_[nodes_[id].key & (buckets_.size() - 1)];
    nodes_[id].next = std::exchange(head, id);
  }
}

prefix_cache::node_id prefix_cache::make(node n) {
  widen();
  auto id = free_;
  if (id == root) {
    id = static_cast<node_id>(nodes_.size());
    nodes_.emplace_back();
  } else {
    free_ = nodes_[id].next;
  }
  n.next = std::exchange(buckets_[n.key & (buckets_.size() - 1)], id);
  const auto block = static_cast<std::size_t>(n.block);
  if (block >= by_block_.size()) by_block_.resize(block + 1, root);
  by_block_[block] = id;
  if (n.parent != root)
    ++nodes_[n.parent].children;
  else if (index_ != nullptr)
    index_->came(n.key, number_);
  pool_.retain(n.block);
  nodes_[id] = n;
  ++size_;
  return id;
}

void prefix_cache::use(node& n) {
  if (!n.unused) return;
  nodes_[n.before].behind = n.behind;
  nodes_[n.behind].before = n.before;
  n.unused = false;
  --unused_;
}

std::int32_t prefix_cache::match(std::uint64_t salt, std::span<const std::int32_t> tokens,
                                 std::int32_t max_tokens, std::vector<std::int32_t>& out) {
  const auto blocks = blocks_within(tokens, max_tokens);
  node_id at = root;
  std::size_t found = 0;
  for (; found < blocks; ++found) {
    const auto next = child(at, salt, tokens_of_block(tokens, found));
    if (next == root) break;
    auto& n = nodes_[next];
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
  node_id at = root;
  for (std::size_t i = 0; i < full; ++i) {
    // The chain's own blocks say where it is, so that what was told before is not hashed again.
    if (const auto own = node_of(blocks[i]); i < known && own != root) {
      at = own;
      continue;
    }
    const auto content = tokens_of_block(tokens, i);
    const auto key = key_of(at, salt, content);
    if (const auto same = find(at, salt, key, content); same != root) {
      at = same;  // computed twice: the first copy stays the known one
      continue;
    }
    node n;
    n.parent = at;
    n.salt = salt;
    n.key = key;
    n.block = blocks[i];
    std::copy(content.begin(), content.end(), n.tokens.begin());
    at = make(n);
  }
  return full;
}

void prefix_cache::released(std::int32_t block) {
  const auto id = node_of(block);
  if (id == root || pool_.references(block) != 1) return;
  auto& n = nodes_[id];
  if (n.unused) return;
  n.before = std::exchange(nodes_[root].before, id);
  n.behind = root;
  nodes_[n.before].behind = id;
  n.unused = true;
  ++unused_;
}

std::int32_t prefix_cache::evict(std::int32_t count) {
  std::int32_t freed = 0;
  auto next = nodes_[root].behind;
  while (freed < count && next != root) {
    const auto id = std::exchange(next, nodes_[next].behind);
    if (nodes_[id].children > 0) continue;  // its children go first; they are further back
    // A parent whose last child went may stand earlier in the list: begin again from it.
    const auto parent = nodes_[id].parent;
    drop(id);
    ++freed;
    if (parent != root && nodes_[parent].unused && nodes_[parent].children == 0) next = nodes_[root].behind;
  }
  return freed;
}

std::int32_t prefix_cache::forget(std::span<const std::int32_t> blocks) {
  std::int32_t forgotten = 0;
  for (auto b = blocks.rbegin(); b != blocks.rend(); ++b) {
    const auto id = node_of(*b);
    if (id == root) continue;
    if (nodes_[id].children > 0) break;
    drop(id);
    ++forgotten;
  }
  return forgotten;
}

void prefix_cache::drop(node_id id) {
  auto& n = nodes_[id];
  use(n);
  auto* link = &buckets_[n.key & (buckets_.size() - 1)];
  while (*link != id) link = &nodes_[*link].next;
  *link = n.next;
  by_block_[static_cast<std::size_t>(n.block)] = root;
  if (n.parent != root)
    --nodes_[n.parent].children;
  else if (index_ != nullptr)
    index_->went(n.key, number_);
  pool_.release(n.block);
  n.block = -1;
  n.next = std::exchange(free_, id);
  --size_;
}

void prefix_cache::clear() {
  if (index_ != nullptr)
    for (const auto& n : nodes_)
      if (n.block >= 0 && n.parent == root) index_->went(n.key, number_);
  nodes_.assign(1, {});
  buckets_.clear();
  by_block_.clear();
  free_ = root;
  size_ = 0;
  unused_ = 0;
}

void prefix_cache::check_integrity() const {
  std::vector<std::int32_t> children(nodes_.size(), 0);
  std::size_t nodes = 0;
  std::int32_t unused = 0;
  for (node_id id = 1; id < nodes_.size(); ++id) {
    const auto& n = nodes_[id];
    if (n.block < 0) continue;
    ++nodes;
    if (n.parent != root) {
      if (nodes_.at(n.parent).block < 0) throw std::logic_error("a cached block has lost its parent");
      ++children[n.parent];
    }
    const auto references = pool_.references(n.block);
    if (references < 1) throw std::logic_error("a cached block is free");
    if (n.unused != (references == 1))
      throw std::logic_error("a cached block is on the wrong side of the list");
    unused += n.unused ? 1 : 0;
    if (node_of(n.block) != id) throw std::logic_error("a block is cached twice");
    if (index_ != nullptr && n.parent == root) {
      const auto known = index_->holders(n.key);
      if (std::find(known.begin(), known.end(), number_) == known.end())
        throw std::logic_error("the index of first blocks lacks one");
    }
    if (find(n.parent, n.salt, n.key, n.tokens) != id) throw std::logic_error("a cached block is not found");
  }
  for (node_id id = 1; id < nodes_.size(); ++id)
    if (nodes_[id].block >= 0 && nodes_[id].children != children[id])
      throw std::logic_error("a cached block miscounts");
  const auto blocks = std::count_if(by_block_.begin(), by_block_.end(), [](auto id) { return id != root; });
  std::int32_t listed = 0;
  for (auto id = nodes_[root].behind; id != root && listed <= unused; id = nodes_[id].behind) ++listed;
  if (unused != unused_ || listed != unused || nodes != size_ || static_cast<std::size_t>(blocks) != nodes)
    throw std::logic_error("the prefix cache's tables disagree");
}

}  // namespace fastserve::scheduler
