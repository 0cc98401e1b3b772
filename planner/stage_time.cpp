#include "planner/stage_time.hpp"

#include <algorithm>
#include <cmath>

namespace fastserve::planner {

namespace {

double over(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

// Reading and multiplying hide each other where one takes far longer, and only in part where they take as
// long: of 1 to 512 rows, products on a CPU take within 13 % of the root of the squares' sum, and up to 24 %
// more than the longer one.
double product_s(const product_work& p, const rank_profile& on, double rows) {
  const auto rate = on.ops_per_s[static_cast<std::size_t>(p.as)];
  return std::hypot(over(2 * p.parameters * rows, rate), over(p.bytes, on.bytes_per_s)) + on.operation_s;
}

}  // namespace

std::string_view name_of(arithmetic a) noexcept {
  constexpr std::array<std::string_view, arithmetics> names{"f32", "f16", "bf16", "int8", "int4"};
  return names[static_cast<std::size_t>(a)];
}

stage_line step_line(const model_work& model, const rank_profile& on, double rows, double context,
                     double sequences, double drawn) {
  stage_line out;
  if (rows <= 0) return out;
  out.step = on.step_s;
  const auto& l = model.layer;
  const auto seen = l.window > 0 ? std::min(context, l.window) : context;
  for (const auto& p : l.products) out.layer += product_s(p, on, rows);
  // Rows of one sequence read the same keys and values; a chunk's rows see half of the chunk on average.
  const auto kept = l.window > 0 ? std::min(context + rows / sequences / 2, l.window + rows / sequences)
                                 : context + rows / sequences / 2;
  const auto rate = on.ops_per_s[static_cast<std::size_t>(arithmetic::f32)];
  out.layer += std::max(over(l.attention_ops * rows * seen, rate),
                        over(l.kv_bytes * sequences * kept, on.bytes_per_s));
  out.layer += over(l.elements * rows, on.elements_per_s);
  out.layer += on.operation_s * std::max(l.operations - static_cast<double>(l.products.size()), 0.0);
  out.embedding = over(model.hop_bytes(rows), on.bytes_per_s) + on.operation_s;
  if (drawn > 0) out.head = product_s(model.head, on, drawn) + over(model.vocab * drawn, on.elements_per_s);
  return out;
}

stage_line prompt_line(const model_work& model, const rank_profile& on, double tokens, double chunk) {
  stage_line out;
  chunk = std::max(std::min(chunk, tokens), 1.0);
  const auto whole = std::floor(tokens / chunk);
  // The time is affine in the context but for the window's end: the mean over the whole chunks is one step.
  // Windows bend it, so those models are added up chunk by chunk, up to a bound.
  constexpr double most_steps = 4096;
  if (model.layer.window > 0 && whole <= most_steps) {
    for (double i = 0; i < whole; ++i) out.add(step_line(model, on, chunk, i * chunk + chunk / 2, 1, 0), 1);
  } else {
    out.add(step_line(model, on, chunk, whole * chunk / 2, 1, 0), whole);
  }
  const auto rest = tokens - whole * chunk;
  if (rest > 0) out.add(step_line(model, on, rest, tokens - rest / 2, 1, 0), 1);
  out.head = step_line(model, on, 1, 1, 1, 1).head;  // of the last row
  return out;
}

stage_line request_line(const model_work& model, const rank_profile& on, double prompt_tokens,
                        double answer_tokens, double chunk, double rows) {
  auto out = prompt_line(model, on, prompt_tokens, chunk);
  out.add(step_line(model, on, rows, prompt_tokens + answer_tokens / 2, rows, rows), answer_tokens / rows);
  return out;
}

}  // namespace fastserve::planner
