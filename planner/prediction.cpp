#include <algorithm>
#include <cmath>
#include <limits>

#include "planner/cluster_plan.hpp"

namespace fastserve::planner {

namespace {

const rank_profile& profile_of(const cluster& on, int rank) {
  if (static_cast<std::size_t>(rank) < on.ranks.size() &&
      on.ranks[static_cast<std::size_t>(rank)].rank == rank)
    return on.ranks[static_cast<std::size_t>(rank)];
  return *std::find_if(on.ranks.begin(), on.ranks.end(), [&](const auto& r) { return r.rank == rank; });
}

// Rows of the chunks that `rows` rows of prompts are cut into for `stages` stages. n chunks take
// (n + stages - 1) (fixed + row * rows / n), which is least at n^2 = (stages - 1) row * rows / fixed: as the
// scheduler cuts them by what it measures.
double chunk_of(const model_work& model, const rank_profile& on, const plan_wishes& w, double rows,
                std::size_t stages) {
  const auto layers = static_cast<double>(model.layers) / static_cast<double>(stages);
  const auto cost = [&](double n) {
    const auto line = step_line(model, on, n, w.prompt_tokens / 2, 1, 0);
    return line.step + layers * line.layer;
  };
  const auto row = (cost(w.token_budget + 1) - cost(1)) / w.token_budget;
  const auto n = std::sqrt(static_cast<double>(stages - 1) * row * rows / std::max(cost(1) - row, 1e-9));
  const auto most = std::max(std::floor(rows / w.least_chunk), 1.0);
  return std::min({w.token_budget, w.prompt_tokens, std::ceil(rows / std::clamp(std::round(n), 1.0, most))});
}

// What a chunk costs more because the prompts before its own decode meanwhile: on average half of them, each
// in one of the micro-batches in flight. All chunks but those of the first prompt draw then.
stage_line decoding_beside(const model_work& model, const rank_profile& on, const plan_wishes& w,
                           double prompts, double chunk, double stages) {
  stage_line out;
  const auto rows = (prompts - 1) / 2 / stages;
  if (rows <= 0) return out;
  const auto context = w.prompt_tokens / 2;
  out.add(step_line(model, on, chunk + rows, context, 1 + rows, 0), 1);
  out.add(step_line(model, on, chunk, context, 1, 0), -1);
  out.head = (prompts - 1) / prompts * step_line(model, on, 1, 1, 1, std::max(rows, 1.0)).head;
  return out;
}

// From the arrival of `prompts` prompts at once to the last one's first token. They are cut so that their
// chunks fill the stages one behind the other; the slowest stage sets the pace once all are full.
double prompts_s(const model_work& model, const cluster& on, const plan_wishes& w, const planned_pipeline& p,
                 double prompts) {
  const auto chunk =
      chunk_of(model, profile_of(on, p.stages[0].rank), w, prompts * w.prompt_tokens, p.stages.size());
  const auto chunks = prompts * std::ceil(w.prompt_tokens / chunk);
  double sum = 0, most = 0;
  for (std::size_t i = 0; i < p.stages.size(); ++i) {
    const auto& s = p.stages[i];
    const auto& busy = profile_of(on, s.rank);
    const auto r = chunks > 1 ? busy : busy.alone();
    const bool last = i + 1 == p.stages.size();
    stage_line line;
    line.add(prompt_line(model, r, w.prompt_tokens, chunk), prompts);
    line.add(decoding_beside(model, r, w, prompts, chunk, static_cast<double>(p.stages.size())), chunks);
    const auto all = line.seconds(s.last_layer - s.first_layer, i == 0, last);
    sum += all / chunks;
    most = std::max(most, all / chunks);
    if (last) continue;
    const auto& l = on.between(r, profile_of(on, p.stages[i + 1].rank));
    sum += l.seconds(model.hop_bytes(chunk));
    most = std::max(most, l.seconds(model.hop_bytes(chunk)) - l.latency_s);
  }
  return sum + (chunks - 1) * most;
}

}  // namespace

void predict(const model_work& model, const cluster& on, const plan_wishes& w, double sequences,
             planned_pipeline& p) {
  const auto count = static_cast<double>(p.stages.size());
  p.kv_tokens = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < p.stages.size(); ++i) {
    auto& s = p.stages[i];
    const auto& r = profile_of(on, s.rank);
    const double layers = s.last_layer - s.first_layer;
    s.weight_bytes = layers * model.layer_bytes + (i == 0 ? model.embedding_bytes : 0) +
                     (i + 1 == p.stages.size() ? model.head_bytes : 0);
    s.kv_bytes = std::max(w.usable_memory * r.memory_bytes - s.weight_bytes, 0.0);
    if (model.layer.kv_bytes > 0)
      p.kv_tokens = std::min(p.kv_tokens, std::floor(s.kv_bytes / (layers * model.layer.kv_bytes)));
  }
  const auto whole = w.prompt_tokens + w.answer_tokens;
  p.sequences = std::clamp(sequences, 1.0, std::max(1.0, std::floor(p.kv_tokens / whole)));
  p.micro_batches = std::min(count, p.sequences);
  const auto rows = std::ceil(p.sequences / p.micro_batches);
  const auto context = w.prompt_tokens + w.answer_tokens / 2;
  double decode_sum = 0, decode_most = 0, busy = 0;
  for (std::size_t i = 0; i < p.stages.size(); ++i) {
    auto& s = p.stages[i];
    const auto& r = profile_of(on, s.rank);
    const double layers = s.last_layer - s.first_layer;
    const bool first = i == 0, last = i + 1 == p.stages.size();
    const auto decoding = p.micro_batches > 1 ? r : r.alone();
    s.decode_s = step_line(model, decoding, rows, context, rows, rows).seconds(layers, first, last);
    s.prefill_s = prompt_line(model, r, w.prompt_tokens, w.token_budget).seconds(layers, first, last);
    s.hop_s = 0;
    double occupied = 0;
    if (!last) {
      const auto& l = on.between(r, profile_of(on, p.stages[i + 1].rank));
      s.hop_s = l.seconds(model.hop_bytes(rows));
      occupied = s.hop_s - l.latency_s;
    } else if (!first) {
      s.hop_s = on.between(r, profile_of(on, p.stages[0].rank)).latency_s;  // the drawn tokens
    }
    decode_sum += s.decode_s + s.hop_s;
    decode_most = std::max({decode_most, s.decode_s, occupied});
    busy = std::max(busy, s.prefill_s + w.answer_tokens * s.decode_s / rows);
  }
  auto& e = p.expected;
  e.ttft_s = prompts_s(model, on, w, p, 1);
  e.tpot_s = std::max(decode_sum, p.micro_batches * decode_most);
  e.prefill_tokens_per_s = p.sequences * w.prompt_tokens / prompts_s(model, on, w, p, p.sequences);
  e.decode_tokens_per_s = p.sequences / e.tpot_s;
  const auto requests_per_s =
      std::min(1 / busy, p.sequences / (e.ttft_s + std::max(w.answer_tokens - 1, 0.0) * e.tpot_s));
  e.answer_tokens_per_s = w.answer_tokens * requests_per_s;
}

}  // namespace fastserve::planner
