#include "compress/pruning.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <stdexcept>

namespace fastserve::compress {

pruning parse_pruning(std::string_view text) {
  pruning out;
  if (text.empty()) return out;
  const auto refuse = [&] {
    throw std::invalid_argument("'" + std::string(text) +
                                "' is no share between 0 and 1, like 0.5, and no pattern like 2:4");
  };
  const auto number = [&](std::string_view part, auto& to) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), to);
    if (error != std::errc{} || end != part.data() + part.size()) refuse();
  };
  const auto colon = text.find(':');
  if (colon == text.npos) {
    number(text, out.share);
    if (!(out.share > 0 && out.share < 1)) refuse();
    return out;
  }
  number(text.substr(0, colon), out.keep);
  number(text.substr(colon + 1), out.of);
  if (out.keep < 1 || out.keep >= out.of || out.of > 64) refuse();
  return out;
}

std::string to_string(const pruning& how) {
  if (how.of > 0) return std::to_string(how.keep) + ":" + std::to_string(how.of);
  char out[16];
  std::snprintf(out, sizeof out, "%.3g%%", 100 * how.share);
  return out;
}

std::vector<std::uint8_t> keep_mask(const pruning& how, const float* w, std::int64_t rows, std::int64_t cols,
                                    const std::vector<float>& importance) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(rows * cols), 1);
  if (!how.any()) return out;
  const auto width = how.of > 0 ? std::int64_t{how.of} : cols;
  std::vector<float> score(static_cast<std::size_t>(cols));
  std::vector<std::int64_t> order;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c)
      score[static_cast<std::size_t>(c)] =
          std::abs(w[r * cols + c]) * std::sqrt(importance[static_cast<std::size_t>(c)]);
    for (std::int64_t begin = 0; begin < cols; begin += width) {
      const auto count = std::min(width, cols - begin);
      const auto drop = how.of > 0 ? std::max<std::int64_t>(0, count - how.keep)
                                   : static_cast<std::int64_t>(how.share * static_cast<double>(count) + 0.5);
      order.resize(static_cast<std::size_t>(count));
      std::iota(order.begin(), order.end(), begin);
      std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
        return score[static_cast<std::size_t>(a)] < score[static_cast<std::size_t>(b)];
      });
      for (std::int64_t i = 0; i < drop; ++i)
        out[static_cast<std::size_t>(r * cols + order[static_cast<std::size_t>(i)])] = 0;
    }
  }
  return out;
}

}  // namespace fastserve::compress
