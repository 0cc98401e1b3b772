#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/sampling.hpp"

namespace fastserve::launch {

/// What --json prints of a finished answer.
struct answer_record {
  std::int64_t index = 0;               ///< of the prompt, from 0, in the order given
  std::string text;                     ///< without the stop text
  std::vector<std::int32_t> token_ids;  ///< of the answer
  std::string finish_reason;            ///< "stop", "length", "cancelled"
  std::string error;                    ///< why there is no more of it; empty when it came to its end
  std::int64_t prompt_tokens = 0;

  double queue_ms = 0.0;  ///< submitted until first scheduled
  double ttft_ms = 0.0;   ///< submitted until the first token
  double total_ms = 0.0;  ///< submitted until the last token

  std::vector<model::sampled_token> logprobs;  ///< one a token of the answer; empty unless asked for
  std::vector<std::string> token_texts;        ///< text of each token of the answer, where known
};

/// One line of JSON without its newline: index, text, token_ids, finish_reason, error{message} if there is
/// one, usage{prompt_tokens, completion_tokens, total_tokens}, timings{queue_ms, ttft_ms, tpot_ms, total_ms,
/// tokens_per_s} and, when asked for, logprobs[{token, logprob, top[{token, logprob}]}]. tpot_ms is (total -
/// ttft) / (tokens - 1), null for fewer than two tokens. Always valid UTF-8: broken bytes of a text become
/// U+FFFD, the token ids stay exact.
std::string format_answer(const answer_record& answer);

}  // namespace fastserve::launch
