#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pipeline.hpp"

namespace fastserve::model::test {

/// A model of tests/data/models with its reference logits (scripts/make_golden_models.py).
struct golden {
  std::filesystem::path folder;
  std::string name;
  std::string weights_dtype;  ///< "float32", "bfloat16", "float16"
  std::vector<std::int32_t> prompt_ids;
  std::vector<std::int32_t> greedy_ids;
  std::vector<std::int32_t> prefill_positions;
  double tolerance = 0.0;
  logit_rows rows;  ///< last prompt position, decode steps, then prefill_positions
};

std::vector<golden> all_goldens();

}  // namespace fastserve::model::test
