#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::launch {

/// A custom_id in 128 bits: two that differ have the same digest with a chance of one in 10^20 even among a
/// billion.
struct id_digest {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const id_digest&, const id_digest&) = default;
};

id_digest digest_of(std::string_view id);

/// The custom_ids of a batch, by their digests: 16 bytes an id, in a table that is filled to two thirds at
/// most.
class batch_id_set {
 public:
  /// Beyond this many no more are taken (2 GiB of table).
  static constexpr std::size_t most_ids = std::size_t{5} << 24;

  /// False when it is there already.
  bool add(id_digest id);
  bool contains(id_digest id) const;
  std::size_t size() const { return size_; }
  bool full() const { return size_ >= most_ids; }

 private:
  std::size_t slot_of(id_digest id) const;
  void grow();

  std::vector<id_digest> slots_;  // a power of two; all zero is empty
  std::size_t size_ = 0;
};

/// Gives every line of a batch the custom_id that its output carries. `own` is the line's, or line-N where it
/// has none that can be read.
class batch_ids {
 public:
  explicit batch_ids(batch_id_set known) : known_{std::move(known)} {}

  enum class verdict : std::uint8_t { first, repeated };
  /// The first line with an id keeps it. A line that has no id of its own, or repeats one, is line-N, and as
  /// many plus signs as it takes where someone else is named so.
  verdict claim(std::string& id, std::uint64_t line);
  /// Repeated ids are no longer seen: there are too many.
  bool blind() const { return known_.full(); }

 private:
  batch_id_set known_;
};

/// The id of a line that has none of its own: "line-N", N from 1.
std::string derived_id(std::uint64_t line);

}  // namespace fastserve::launch
