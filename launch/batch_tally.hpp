#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace fastserve::launch {

/// A distribution of times in little memory: buckets 2% wide from a microsecond to a day.
class time_histogram {
 public:
  void add(double seconds);
  std::uint64_t count() const { return count_; }
  double mean_seconds() const;
  /// The time that this share of all does not exceed, 2% above at most. 0 when there is none.
  double quantile_seconds(double share) const;

 private:
  std::array<std::uint64_t, 1280> buckets_{};
  std::uint64_t count_ = 0;
  double sum_seconds_ = 0;
  double largest_seconds_ = 0;
};

/// What one run of a batch has done.
struct batch_tally {
  std::uint64_t answered = 0;
  std::uint64_t failed = 0;
  std::uint64_t tokens_in = 0;
  std::uint64_t tokens_out = 0;
  std::uint64_t input_bytes = 0;
  std::uint64_t prefix_hit_tokens = 0;  ///< prompt tokens that were not computed again
  std::uint64_t preemptions = 0;
  time_histogram first_token;  ///< from arrival at the scheduler to the first token
  time_histogram each_token;   ///< between tokens of an answer, its mean

  /// `longest`: tokens of the choice that the times are of.
  void add_answer(std::int32_t prompt_tokens, std::int32_t completion_tokens, std::int32_t longest,
                  std::int64_t first_token_ns, std::int64_t total_ns);
  /// Up to three lines, each with its newline.
  std::string summary(double seconds) const;
};

}  // namespace fastserve::launch
