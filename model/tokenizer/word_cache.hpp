#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/token_id.hpp"

namespace fastserve::model {

/// Remembers the ids of the words seen last. Natural text repeats its words, so most of an encode is a
/// look-up here. Bounded: a full cache is emptied and starts again. Not thread-safe: one cache, one encode at
/// a time.
class word_cache {
 public:
  static constexpr std::size_t longest_word_bytes = 48;

  word_cache() : slots_(first_slots) {}

  /// The ids of a word, or null data if it is not known. Valid until the next `insert`.
  std::span<const token_id> find(std::string_view word, std::uint64_t hash) const;

  /// Remembers a word that `find` did not know. Words without ids or too long are left out.
  void insert(std::string_view word, std::uint64_t hash, std::span<const token_id> ids);

 private:
  static constexpr std::size_t first_slots = 1 << 12;
  static constexpr std::size_t last_slots = 1 << 17;

  struct slot {
    std::uint64_t hash = 0;
    std::uint32_t word_at = 0;
    std::uint32_t ids_at = 0;
    std::uint16_t word_bytes = 0;
    std::uint16_t ids = 0;  // 0 is free
  };
  void make_room();

  std::vector<slot> slots_;
  std::size_t used_ = 0;
  std::string words_;
  std::vector<token_id> ids_;
};

}  // namespace fastserve::model
