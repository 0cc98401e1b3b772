#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace fastserve::kernels {

/// Tokens that one KV block holds.
inline constexpr std::int32_t kv_block_tokens = 16;

/// The rows of a step that belong to one sequence: `rows` consecutive tokens at positions
/// first_position, first_position + 1, ... whose KV lives in `blocks` (token p in blocks[p /
/// kv_block_tokens]).
struct step_sequence {
  std::int32_t first_row = 0;
  std::int32_t rows = 0;
  std::int32_t first_position = 0;
  std::vector<std::int32_t> blocks;
};

/// What one micro-batch computes, in host memory: decode rows and prefill chunks side by side.
struct step_layout {
  /// [rows]; read by the stage that embeds, may be empty elsewhere. ~i, which is below 0, is the i-th token
  /// of the last backend::start_draw() on the stream, known or not.
  std::vector<std::int32_t> token_ids;
  std::vector<std::int32_t> positions;  ///< [rows]
  std::vector<step_sequence> sequences;
  std::vector<std::int32_t> sampled_rows;  ///< rows whose logits are wanted, ascending
  std::int32_t drawn = 0;                  ///< tokens of that draw that token_ids may name
};

/// A step_layout brought to a device, with whatever the back end derives from it once (rotation tables, work
/// split). Good for every layer of the step.
class step_plan {
 public:
  step_plan() = default;
  step_plan(const step_plan&) = delete;
  step_plan& operator=(const step_plan&) = delete;
  virtual ~step_plan() = default;
};

}  // namespace fastserve::kernels
