#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::model {

/// 64 well-mixed bits of a byte string. Not for hostile keys alone: callers bound the number of keys.
std::uint64_t hash_bytes(std::string_view bytes);

/// Strings by index, in one allocation.
class string_list {
 public:
  void push_back(std::string_view text) {
    bytes_.append(text);
    ends_.push_back(bytes_.size());
  }
  std::string_view operator[](std::size_t i) const {
    const std::size_t start = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(start, ends_[i] - start);
  }
  std::size_t size() const { return ends_.size(); }
  bool empty() const { return ends_.empty(); }

 private:
  std::string bytes_;
  std::vector<std::size_t> ends_;
};

/// A hash table from byte strings to small non-negative integers: built once, read often.
class string_table {
 public:
  static constexpr std::int32_t none = -1;

  /// False, and nothing changed, if the key is there already.
  bool insert(std::string_view key, std::int32_t value);

  /// The key's value, or `none`.
  std::int32_t find(std::string_view key) const;

  std::size_t size() const { return keys_.size(); }
  /// Length of the longest key: longer strings need not be looked up.
  std::size_t longest_bytes() const { return longest_bytes_; }

 private:
  struct slot {
    std::uint32_t hash = 0;
    std::uint32_t key = 0;  // index in keys_, plus one; 0 is free
    std::int32_t value = none;
  };
  void grow();

  string_list keys_;
  std::vector<slot> slots_;
  std::size_t longest_bytes_ = 0;
};

}  // namespace fastserve::model
