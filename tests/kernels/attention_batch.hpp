#pragma once

#include <cstdint>

#include "kernels/step.hpp"

// What attention is benched with: so many sequences alike, each with tokens before the step's rows.

namespace fastserve::kernels {

struct attention_batch {
  const char* name;
  std::int32_t sequences;
  std::int32_t before;
  std::int32_t rows;

  std::int32_t tokens() const { return before + rows; }
  std::int32_t blocks() const {
    return (tokens() + kv_block_tokens - 1) / kv_block_tokens;
  }  ///< of a sequence
};

/// The sequences' blocks take turns in the store.
inline step_layout layout_of(const attention_batch& batch) {
  step_layout layout;
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    step_sequence sequence{static_cast<std::int32_t>(layout.positions.size()), batch.rows, batch.before, {}};
    for (std::int32_t i = 0; i < batch.blocks(); ++i) sequence.blocks.push_back(i * batch.sequences + s);
    layout.sequences.push_back(sequence);
    for (std::int32_t t = batch.before; t < batch.tokens(); ++t) layout.positions.push_back(t);
  }
  return layout;
}

}  // namespace fastserve::kernels
