#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "planner/cluster_plan.hpp"

namespace fastserve::launch {

/// What bench measures: the same for every combination of batch and prompt.
struct bench_subject {
  std::string model;
  std::string weights;  ///< their type
  int ranks = 1;
  int pipelines = 1;
  int stages = 1;   ///< of a pipeline
  int threads = 1;  ///< of a rank
  std::int32_t decode_tokens = 0;
  std::int32_t repeat = 1;
  std::uint64_t weight_bytes = 0;
  std::uint64_t step_bytes = 0;   ///< of them, read by a step of all pipelines
  double token_ops = 0;           ///< of the layers, for one token
  std::vector<int> stage_ranks;   ///< of all pipelines, one behind the other
  std::vector<int> stage_layers;  ///< the same, how many layers
};

/// One combination; medians of its rounds.
struct bench_figures {
  std::int32_t batch = 1;
  std::int32_t prompt_tokens = 0;
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double read_bytes_per_s = 0;  ///< what the machine can do, all ranks together
  double ops_per_s = 0;         ///< the same; 0: not known
  double prefill_share = 0;     ///< median of the rounds' shares of ops_per_s, each measured around its round
  double decode_share = 0;      ///< likewise of read_bytes_per_s
  double turnaround_us = 0;     ///< from the last stage's token to the first stage's next start; 0: not known
  double draw_us = 0;           ///< a step
  double hit_first_token_us = 0;  ///< of a prompt that is in the prefix cache; 0: not measured
  double hit_step_us = 0;
  std::optional<planner::prediction> expected;  ///< by the ranks' measured speeds

  /// Bytes of weights that decoding reads for a token. A pipeline has its share of the sequences; with fewer
  /// of them than pipelines some have none.
  double weight_bytes_of_token(const bench_subject& of) const;
};

/// The line that says what is measured.
std::string bench_heading(const bench_subject& of);
/// One combination in some lines.
std::string bench_text(const bench_subject& of, const bench_figures& f);
/// Several combinations as a table: what stands above it, and a row.
std::string bench_table_head(const bench_subject& of);
std::string bench_table_row(const bench_figures& f);
/// One combination as a line of JSON.
nlohmann::ordered_json bench_json(const bench_subject& of, const bench_figures& f);

}  // namespace fastserve::launch
