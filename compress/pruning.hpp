#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::compress {

/// Which weights to drop: a share of each row, or all but `keep` of every `of` neighbours.
struct pruning {
  double share = 0;  ///< 0 = none
  int keep = 0;
  int of = 0;
  bool any() const { return share > 0 || of > 0; }
};

/// "0.5" or "2:4"; "" is none. Throws std::invalid_argument with one line.
pruning parse_pruning(std::string_view text);

/// "50%", "2:4"
std::string to_string(const pruning& how);

/// 1 for a weight that stays. [rows, cols] The least |w| sqrt(importance of its column) go: magnitude, or
/// with the inputs' squares Wanda's measure (arXiv 2306.11695, eq. 1).
std::vector<std::uint8_t> keep_mask(const pruning& how, const float* w, std::int64_t rows, std::int64_t cols,
                                    const std::vector<float>& importance);

}  // namespace fastserve::compress
