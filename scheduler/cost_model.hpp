#pragma once

#include <array>
#include <cstdint>
#include <span>

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

  /// The stage's work without drawing.
  time compute(const step_size& size) const;
  /// Drawing the step's tokens.
  time draw(const step_size& size) const;
  /// One decode row with no context to speak of: what sj-mlfq takes for its shortest quantum.
  time decode_step() const;
  /// Prefill of `tokens` behind `cached` positions, in chunks of at most `chunk` rows; of none: nothing.
  time prefill(std::int64_t tokens, std::int64_t cached, std::int64_t chunk) const;
  /// Rows of the next chunk, of at least `least`, if `rows` are to go through `stages` stages one chunk
  /// behind the other so that the last stage ends soonest. n chunks take (n + stages - 1) (fixed + row * rows
  /// / n), which is least at n^2 = (stages - 1) row * rows / fixed: with few of them stages idle at both
  /// ends, with many each pays `fixed`.
  std::int64_t chunk(std::int64_t rows, std::int32_t stages, std::int64_t least) const;
};

/// Learns what steps cost: least squares with no cost below zero, the weight of a step halving every few
/// thousand steps so that the fit follows the machine. Keeps sums alone: of constant size.
class cost_model {
 public:
  /// A step of this size kept a stage busy for `spent`.
  void observe(const step_size& size, time spent);
  /// The best costs so far, solved anew now and then. Before the first step: a guess that any step corrects.
  const step_costs& costs() const { return costs_; }
  /// The best costs of all steps seen; all zero before the first one.
  step_costs solve() const;
  std::uint64_t steps() const { return steps_; }
  /// Learns what the others have seen.
  void include(std::span<const cost_model* const> others);
  /// How many times as long as `costs` say the steps seen took; 0 when that cannot be said.
  double times(const step_costs& costs) const;

 private:
  static constexpr std::size_t terms = 4;
  std::array<std::array<double, terms>, terms> products_{};  // of terms with terms
  std::array<double, terms> targets_{};                      // of terms with times
  std::uint64_t steps_ = 0;
  step_costs costs_{1e6, 1e5, 0, 0};
};

}  // namespace fastserve::scheduler
