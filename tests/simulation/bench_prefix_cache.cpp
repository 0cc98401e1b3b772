// How much of a trace's prompts the prefix cache finds, against the most that a cache of its size could find.
// Usage: bench_prefix_cache TRACE.jsonl   (Mooncake's format: hash_ids, one for each 512 tokens)
//
// Scaled: an id stands for one block of 16 tokens. Requests come one at a time, so that nothing but the order
// of eviction counts. The bound is Belady's (IBM Systems Journal 5, 1966): it knows the future, evicts what
// is needed last and keeps nothing that is not needed again; it need not keep prefixes whole nor hold a
// request's blocks while it runs, so no cache reaches more. LRU, the usual order, stands beside it.

#include <chrono>
#include <cstdio>
#include <exception>
#include <limits>
#include <set>
#include <unordered_map>
#include <vector>

#include "launch/workload.hpp"
#include "scheduler/prefix_cache.hpp"

namespace {

namespace sched = fastserve::scheduler;
using fastserve::launch::trace;

std::vector<std::int32_t> prompt_of(const fastserve::launch::workload_item& item) {
  std::vector<std::int32_t> out;
  for (const auto id : item.prefix_ids)
    for (std::int32_t i = 0; i < sched::block_tokens; ++i)
      out.push_back(
          static_cast<std::int32_t>((id * sched::block_tokens + static_cast<std::uint64_t>(i)) & 0x7fffffff));
  return out;
}

std::uint64_t ours(const trace& t, std::int32_t capacity) {
  sched::block_pool pool{capacity};
  sched::prefix_cache cache{pool};
  for (const auto& item : t.items) {
    const auto tokens = prompt_of(item);
    std::vector<std::int32_t> blocks;
    const auto length = static_cast<std::int32_t>(tokens.size());
    auto known = static_cast<std::size_t>(cache.match(0, tokens, length, blocks)) / sched::block_tokens;
    const auto missing = static_cast<std::int32_t>(item.prefix_ids.size() - known);
    if (pool.free_blocks() < missing) cache.evict(missing - pool.free_blocks());
    // A prompt that is larger than the cache keeps its beginning.
    const auto room = std::min(missing, pool.free_blocks());
    pool.allocate(room, blocks);
    cache.insert(0, tokens, static_cast<std::int32_t>(blocks.size()) * sched::block_tokens, blocks, known);
    for (auto b = blocks.rbegin(); b != blocks.rend(); ++b) {
      pool.release(*b);
      cache.released(*b);
    }
  }
  cache.check_integrity();
  return cache.hit_tokens() / sched::block_tokens;
}

std::uint64_t belady(const trace& t, std::size_t capacity) {
  std::vector<std::uint64_t> accesses;
  for (const auto& item : t.items)
    accesses.insert(accesses.end(), item.prefix_ids.begin(), item.prefix_ids.end());
  constexpr auto never = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> next(accesses.size(), never);
  std::unordered_map<std::uint64_t, std::size_t> last;
  for (std::size_t i = accesses.size(); i-- > 0;) {
    if (const auto it = last.find(accesses[i]); it != last.end()) next[i] = it->second;
    last[accesses[i]] = i;
  }
  std::set<std::pair<std::size_t, std::uint64_t>> kept;  // by when they are needed
  std::unordered_map<std::uint64_t, std::size_t> needed;
  std::uint64_t hits = 0;
  for (std::size_t i = 0; i < accesses.size(); ++i) {
    if (const auto it = needed.find(accesses[i]); it != needed.end()) {
      ++hits;
      kept.erase({it->second, accesses[i]});
      needed.erase(it);
    }
    if (next[i] == never) continue;
    kept.emplace(next[i], accesses[i]);
    needed[accesses[i]] = next[i];
    if (kept.size() <= capacity) continue;
    needed.erase(std::prev(kept.end())->second);
    kept.erase(std::prev(kept.end()));
  }
  return hits;
}

void run(const char* path) {
  const auto t = fastserve::launch::read_trace_file(path);
  if (!t.prefixes) throw std::runtime_error(std::string{path} + ": has no hash_ids");
  std::set<std::uint64_t> distinct;
  std::uint64_t asked = 0;
  for (const auto& item : t.items) {
    distinct.insert(item.prefix_ids.begin(), item.prefix_ids.end());
    asked += item.prefix_ids.size();
  }
  const auto share = [&](std::uint64_t hits) {
    return 100.0 * static_cast<double>(hits) / static_cast<double>(asked);
  };
  std::printf("%zu requests, %llu blocks, %zu of them distinct\n", t.items.size(),
              static_cast<unsigned long long>(asked), distinct.size());
  std::printf("%10s %9s %9s %9s %14s\n", "capacity", "of all", "found %", "bound %", "us a request");
  for (const double part : {0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 1.0}) {
    const auto capacity = static_cast<std::int32_t>(part * static_cast<double>(distinct.size()));
    const auto begin = std::chrono::steady_clock::now();
    const auto hits = ours(t, capacity);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    const auto whole = static_cast<std::size_t>(capacity);
    std::printf("%10d %8.0f%% %9.2f %9.2f %14.1f\n", capacity, 100 * part, share(hits),
                share(belady(t, whole)), took.count() / static_cast<double>(t.items.size()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: bench_prefix_cache TRACE.jsonl\n");
    return 2;
  }
  try {
    run(argv[1]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_prefix_cache: %s\n", e.what());
    return 1;
  }
  return 0;
}
