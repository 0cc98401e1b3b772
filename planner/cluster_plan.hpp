#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/chain.hpp"
#include "planner/cluster.hpp"
#include "planner/work.hpp"

namespace fastserve::planner {

enum class plan_goal : std::uint8_t {
  throughput,  ///< most answer tokens a second of all pipelines
  latency      ///< shortest time of one request, from its prompt to its last token
};

/// What a plan is made for.
struct plan_wishes {
  plan_goal goal = plan_goal::throughput;
  double prompt_tokens = 512;
  double answer_tokens = 128;
  double batch =
      0;  ///< sequences at once, of all pipelines; 0 = max_batch in each micro-batch; for latency one
  double max_batch = 64;       ///< sequences in a micro-batch
  double token_budget = 256;   ///< rows in a micro-batch
  double least_chunk = 64;     ///< rows that a prompt is cut into at least
  double context_tokens = 0;   ///< KV that there must be room for; 0 = a prompt and its answer
  double usable_memory = 1.0;  ///< part of a rank's memory_bytes that weights and KV may take
  int spares = 0;              ///< ranks kept without layers
  int replicas = 0;            ///< pipelines; 0 = as many as serve the goal best
  int most_stages = 0;         ///< of a pipeline; 0 = any number
};

/// A stage of a planned pipeline.
struct planned_stage {
  int rank = 0;
  std::int32_t first_layer = 0;
  std::int32_t last_layer = 0;
  double decode_s = 0;   ///< of a step with one token of each sequence
  double prefill_s = 0;  ///< of a whole prompt
  double weight_bytes = 0;
  double kv_bytes = 0;  ///< what is left for keys and values
  double hop_s = 0;     ///< to the next stage, a decode step's activations
};

/// What is expected of a pipeline or of all of them.
struct prediction {
  double ttft_s = 0;                ///< of a prompt alone
  double tpot_s = 0;                ///< between two tokens of an answer, with the whole batch decoding
  double prefill_tokens_per_s = 0;  ///< of one prompt a sequence, all at once
  double decode_tokens_per_s = 0;   ///< while nothing but decode happens
  double answer_tokens_per_s = 0;   ///< of requests that come without end
};

struct planned_pipeline {
  std::vector<planned_stage> stages;
  double kv_tokens = 0;
  double sequences = 0;      ///< at once
  double micro_batches = 0;  ///< that they are divided into
  prediction expected;
};

struct cluster_plan {
  std::vector<planned_pipeline> pipelines;
  std::vector<int> spares;
  std::vector<int> left_out;
  prediction expected;               ///< rates of all pipelines together, times of the slowest
  std::vector<std::string> reasons;  ///< a line each, for people
  std::string error;                 ///< why there is no plan; then there are no pipelines
};

/// How many pipelines of how many stages, which rank does what, which stand by, and why.
///
/// For a number of ranks to a pipeline, the pipeline's cut is exact as cut_any_order says. Heuristic: which
/// ranks share a pipeline when there are several (neighbours together, or fast and slow mixed; the better one
/// is taken), which are spares (the slowest), and beyond 64 ranks which numbers of stages are tried.
cluster_plan make_plan(const model_work& model, const cluster& on, const plan_wishes& wishes);

/// What a pipeline of these stages is expected to do; fills in the stages' figures. Stages in order of the
/// layers; ranks are found in `on` by their number.
void predict(const model_work& model, const cluster& on, const plan_wishes& wishes, double sequences,
             planned_pipeline& pipeline);

}  // namespace fastserve::planner
