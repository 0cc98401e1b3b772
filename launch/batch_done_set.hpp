#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace fastserve::launch {

/// A place in the input file.
struct input_position {
  std::uint64_t line = 0;          ///< lines before it, blank ones too
  std::uint64_t offset_bytes = 0;  ///< from the start of the file
  friend bool operator==(const input_position&, const input_position&) = default;
};

/// Which requests of a batch are finished, as intervals of their numbers (from 0, in the order of the input).
/// Requests finish nearly in order, so there are no more intervals than open requests, however long the
/// input.
class done_set {
 public:
  /// False, and nothing changes, when it is there already. `end` is where the request's line ends.
  bool add(std::uint64_t request, input_position end);
  bool contains(std::uint64_t request) const;

  std::uint64_t count() const { return count_; }
  /// The lowest request that is not there.
  std::uint64_t first_missing() const;
  /// Where reading goes on to find first_missing(): the end of the one before it.
  input_position resume_at() const;
  std::size_t intervals() const { return intervals_.size(); }

 private:
  struct interval {
    std::uint64_t end = 0;    // one past the last request
    input_position position;  // where the last one's line ends
  };
  std::map<std::uint64_t, interval> intervals_;  // by their first request
  std::uint64_t count_ = 0;
};

}  // namespace fastserve::launch
