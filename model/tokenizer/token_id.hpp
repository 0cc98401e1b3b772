#pragma once

#include <cstdint>

namespace fastserve::model {

/// Index of a token in a vocabulary: a row of the embedding.
using token_id = std::int32_t;

/// Largest vocabulary that a file may ask for: far above any real one, low enough to refuse a lying file.
constexpr std::int64_t max_vocab_tokens = std::int64_t{1} << 22;

}  // namespace fastserve::model
