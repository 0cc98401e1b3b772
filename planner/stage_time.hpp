#pragma once

#include "planner/cluster.hpp"
#include "planner/work.hpp"

namespace fastserve::planner {

/// Time of a stage as a function of what it holds: step + layers * layer (+ embedding) (+ head), in seconds.
struct stage_line {
  double step = 0;
  double layer = 0;
  double embedding = 0;
  double head = 0;

  double seconds(double layers, bool embeds, bool heads) const {
    return step + layers * layer + (embeds ? embedding : 0) + (heads ? head : 0);
  }
  void add(const stage_line& other, double times) {
    step += times * other.step;
    layer += times * other.layer;
    embedding += times * other.embedding;
    head += times * other.head;
  }
};

/// One step of `rows` rows in which each row attends to `context` positions on average (itself included), the
/// rows belong to `sequences` sequences, and `drawn` rows draw a token. Products and attention cost the
/// larger of operations / rate and bytes / bandwidth (the roofline model, Williams et al., CACM 52(4), 2009),
/// the rest elements / rate and a fixed time an operation.
stage_line step_line(const model_work& model, const rank_profile& on, double rows, double context,
                     double sequences, double drawn);

/// A prompt of `tokens` alone, in chunks of at most `chunk` rows: all of them together.
stage_line prompt_line(const model_work& model, const rank_profile& on, double tokens, double chunk);

/// A request from its prompt, in chunks of at most `chunk` rows, to its last token, drawn in micro-batches of
/// `rows` sequences: what a stage is busy with it.
stage_line request_line(const model_work& model, const rank_profile& on, double prompt_tokens,
                        double answer_tokens, double chunk, double rows);

}  // namespace fastserve::planner
