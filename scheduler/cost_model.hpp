#pragma once

#include <cstdint>

#include "scheduler/request.hpp"

namespace fastserve::scheduler {

/// How long a step takes: fixed + per_row * rows, fitted to the steps seen (least squares with exponential
/// forgetting, so that it follows the machine). Before the first step: a guess that any step corrects.
class cost_model {
 public:
  /// A step of `rows` rows took `spent`.
  void observe(std::int32_t rows, time spent);

  /// A step of `rows` rows.
  time step(std::int32_t rows) const;
  /// Prefill of `tokens` in chunks of at most `chunk` rows.
  time prefill(std::int32_t tokens, std::int32_t chunk) const;

  double fixed_ns() const { return fixed_ns_; }
  double row_ns() const { return row_ns_; }

 private:
  double weight_ = 0, rows_ = 0, rows2_ = 0, spent_ = 0, product_ = 0;
  double fixed_ns_ = 1e6;
  double row_ns_ = 1e5;
};

}  // namespace fastserve::scheduler
