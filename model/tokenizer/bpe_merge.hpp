#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

/// The merging of byte-pair encoding (Sennrich et al., 2016): the adjacent pair of lowest rank becomes one
/// symbol, the leftmost first among equals, until no pair is left that has a rank.
namespace fastserve::model {

/// A token id, or a number past the vocabulary for a character that is no token itself.
using symbol_id = std::int32_t;
constexpr symbol_id no_symbol = -1;

/// What an adjacent pair becomes, and how early.
struct merge_rule {
  std::uint32_t rank;
  symbol_id result;
};

/// Pairs to rules, by open addressing: looked up once or twice a symbol.
class merge_table {
 public:
  void reserve(std::size_t pairs);
  /// A pair given twice keeps the last rule, as in the reference library.
  void set(symbol_id left, symbol_id right, merge_rule rule);
  /// The pair's rule, or null.
  const merge_rule* find(symbol_id left, symbol_id right) const;
  std::size_t size() const { return used_; }

 private:
  struct slot {
    std::uint64_t key = free_key;
    merge_rule rule{0, 0};
  };
  static constexpr std::uint64_t free_key = ~std::uint64_t{0};
  static std::uint64_t key_of(symbol_id left, symbol_id right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t start_of(std::uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }
  void rehash(std::size_t slots);

  std::vector<slot> slots_;
  std::size_t used_ = 0;
  int shift_ = 64;
};

/// Memory that merging reuses.
struct merge_scratch {
  struct node {
    symbol_id symbol;
    std::int32_t previous;
    std::int32_t next;  // `dead` once merged into its left neighbour
  };
  struct candidate {
    std::uint32_t rank;
    std::int32_t at;
    symbol_id result;
  };
  std::vector<merge_rule> pairs;
  std::vector<node> nodes;
  std::vector<candidate> heap;
};

/// Merges in place. Quadratic with a tiny constant for short words, O(n log n) for long ones; the result is
/// the same. At most 2^31 - 1 symbols.
void merge_symbols(const merge_table& table, std::vector<symbol_id>& symbols, merge_scratch& scratch);

}  // namespace fastserve::model
