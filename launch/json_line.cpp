#include "launch/json_line.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

namespace fastserve::launch {

namespace {

using nlohmann::ordered_json;

/// JSON has no infinity: a token that could not be drawn has no logarithm, null.
ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

/// Microseconds are as fine as anything here is measured.
ordered_json milliseconds(double value) { return number(std::round(value * 1000.0) / 1000.0); }

ordered_json logprobs_of(const answer_record& answer) {
  ordered_json list = ordered_json::array();
  for (std::size_t i = 0; i < answer.logprobs.size(); ++i) {
    const model::sampled_token& drawn = answer.logprobs[i];
    ordered_json entry{{"token", drawn.token}, {"logprob", number(drawn.logprob)}};
    if (i < answer.token_texts.size()) entry["text"] = answer.token_texts[i];
    ordered_json top = ordered_json::array();
    for (const model::token_logprob& other : drawn.top)
      top.push_back({{"token", other.token}, {"logprob", number(other.logprob)}});
    entry["top"] = std::move(top);
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace

std::string format_answer(const answer_record& answer) {
  const auto tokens = static_cast<std::int64_t>(answer.token_ids.size());
  const double decode_ms = answer.total_ms - answer.ttft_ms;
  ordered_json line;
  line["index"] = answer.index;
  line["text"] = answer.text;
  line["token_ids"] = answer.token_ids;
  line["finish_reason"] = answer.finish_reason;
  if (!answer.error.empty()) line["error"] = {{"message", answer.error}};
  line["usage"] = {{"prompt_tokens", answer.prompt_tokens},
                   {"completion_tokens", tokens},
                   {"total_tokens", answer.prompt_tokens + tokens}};
  line["timings"] = {{"queue_ms", milliseconds(answer.queue_ms)},
                     {"ttft_ms", milliseconds(answer.ttft_ms)},
                     {"tpot_ms", tokens > 1 ? milliseconds(decode_ms / static_cast<double>(tokens - 1))
                                            : ordered_json(nullptr)},
                     {"total_ms", milliseconds(answer.total_ms)},
                     {"tokens_per_s", answer.total_ms > 0.0 ? milliseconds(static_cast<double>(tokens) *
                                                                           1000.0 / answer.total_ms)
                                                            : ordered_json(nullptr)}};
  if (!answer.logprobs.empty()) line["logprobs"] = logprobs_of(answer);
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace fastserve::launch
