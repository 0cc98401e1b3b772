#pragma once

#include <array>
#include <cstdint>

#include "scheduler/request.hpp"

namespace fastserve::scheduler {

/// What a step has to do.
struct step_size {
  std::int64_t rows = 0;     ///< tokens computed
  std::int64_t draws = 0;    ///< tokens drawn
  std::int64_t context = 0;  ///< positions attended to, summed over the rows
};

/// What a step costs on one stage, in nanoseconds: fixed + row * rows + draw * draws + context * context.
/// Drawing happens on the last stage alone.
struct step_costs {
  double fixed_ns = 0;
  double row_ns = 0;
  double draw_ns = 0;
  double context_ns = 0;
};

/// Least squares over all steps seen, with no cost below zero. Keeps sums alone: of constant size.
class step_fit {
 public:
  void observe(const step_size& size, time spent);
  /// The best costs; all zero before the first step.
  step_costs solve() const;
  std::uint64_t steps() const { return steps_; }

 private:
  static constexpr std::size_t terms = 4;
  std::array<std::array<double, terms>, terms> products_{};  // of terms with terms
  std::array<double, terms> targets_{};                      // of terms with times
  std::uint64_t steps_ = 0;
};

}  // namespace fastserve::scheduler
