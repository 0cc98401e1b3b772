#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fastserve::launch {

/// Lengths of prompts and answers to measure with, and which of them the user asked for.
struct measured_lengths {
  std::vector<std::int32_t> prompts;
  std::int32_t answer = 1;
  bool prompts_given = false;
  bool answer_given = false;
};

/// Shortens what was not asked for so that each prompt fits into `context` with its answer. Returns what to
/// say of it; empty when nothing was changed. Throws std::runtime_error when what was asked for does not fit.
std::string fit_lengths(measured_lengths& lengths, std::int32_t context);

}  // namespace fastserve::launch
