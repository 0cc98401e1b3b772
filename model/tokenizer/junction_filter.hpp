#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastserve::model {

/// Which characters a merge may join. A merge of tokens "..x" and "y.." happens across the boundary x|y and
/// nowhere else, so text can be cut at any boundary whose pair no merge has, and the parts encoded on their
/// own, with the same result. This turns a model without a pre-tokenizer (Llama 2: the whole text is one
/// word) into one with short, cacheable words. Kept as a bit set by hash: a false yes only misses a cut.
class junction_filter {
 public:
  junction_filter() : bits_(words, 0) {}
  void add(char32_t left, char32_t right) {
    const std::uint32_t bit = bit_of(left, right);
    bits_[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
  bool may_join(char32_t left, char32_t right) const {
    const std::uint32_t bit = bit_of(left, right);
    return (bits_[bit / 64] >> (bit % 64) & 1) != 0;
  }

 private:
  static constexpr int log2_bits = 18;
  static constexpr std::size_t words = (std::size_t{1} << log2_bits) / 64;
  static std::uint32_t bit_of(char32_t left, char32_t right) {
    const std::uint64_t pair = static_cast<std::uint64_t>(left) << 32 | right;
    return static_cast<std::uint32_t>((pair * 0x9E3779B97F4A7C15u) >> (64 - log2_bits));
  }
  std::vector<std::uint64_t> bits_;
};

}  // namespace fastserve::model
