#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/architecture.hpp"
#include "model/weight_source.hpp"

namespace fastserve::model::test {

/// Logits of every position of a sequence, the slow and obvious way: one token after another, everything in
/// double, straight from the equations. Shares with the real forward pass the architecture and the tensors,
/// no arithmetic.
std::vector<std::vector<float>> naive_forward(const architecture& arch, weight_source& source,
                                              std::span<const std::int32_t> tokens);

}  // namespace fastserve::model::test
