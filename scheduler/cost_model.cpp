#include "scheduler/cost_model.hpp"

#include <algorithm>

namespace fastserve::scheduler {

namespace {
// A step's weight halves every 140 steps.
constexpr double keep = 0.995;
}  // namespace

void cost_model::observe(std::int32_t rows, time spent) {
  const double x = rows;
  const auto y = static_cast<double>(spent.count());
  weight_ = keep * weight_ + 1;
  rows_ = keep * rows_ + x;
  rows2_ = keep * rows2_ + x * x;
  spent_ = keep * spent_ + y;
  product_ = keep * product_ + x * y;

  const double mean_x = rows_ / weight_;
  const double mean_y = spent_ / weight_;
  const double variance = rows2_ / weight_ - mean_x * mean_x;
  // Steps of one size only say what that size costs: share it as if the fixed part were one row's worth.
  if (variance < 0.25) {
    row_ns_ = mean_y / (mean_x + 1);
    fixed_ns_ = row_ns_;
    return;
  }
  const double slope = (product_ / weight_ - mean_x * mean_y) / variance;
  row_ns_ = std::clamp(slope, 0.0, mean_y / std::max(mean_x, 1.0));
  fixed_ns_ = std::max(mean_y - row_ns_ * mean_x, 0.0);
}

time cost_model::step(std::int32_t rows) const {
  return time{static_cast<std::int64_t>(fixed_ns_ + row_ns_ * rows)};
}

time cost_model::prefill(std::int32_t tokens, std::int32_t chunk) const {
  const auto chunks = std::max((tokens + chunk - 1) / chunk, 1);
  return time{static_cast<std::int64_t>(fixed_ns_ * chunks + row_ns_ * tokens)};
}

}  // namespace fastserve::scheduler
