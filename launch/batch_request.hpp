#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "launch/options.hpp"

namespace fastserve::launch {

/// What a line of a batch's input asks for.
struct batch_request {
  std::string custom_id;
  prompt what;
  model::sampling_params sampling;  ///< those of the settings, where the line says nothing
  model::stop_params stopping;
  bool logprobs = false;          ///< log-probabilities are wanted in the answer
  std::int32_t alternatives = 0;  ///< so many a token
  bool token_ids = false;         ///< the answer's token ids are wanted ("return_token_ids")
  std::int32_t choices = 1;       ///< answers wanted ("n"), drawn with seed, seed + 1, ...
  std::int32_t priority = 0;      ///< larger goes first
  std::string cache_salt;         ///< cached prefixes are shared under the same salt only
};

/// Why a line of a batch is not answered.
struct batch_error {
  std::string custom_id;
  std::string code;     ///< "invalid_json", "line_too_long", "invalid_request", "unsupported", "refused"
  std::string message;  ///< one line: which field, what was expected, what was found
};

using batch_line = std::variant<batch_request, batch_error>;

/// Reads one line of the input, which may hold anything: never throws for what it says. Two forms:
///
///     {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": ..., ...}}
///     {"prompt": ..., ...}
///
/// The second has the body's fields at the top level; its custom_id is "line-N" with the line's number in the
/// file (from 1), unless it brings one. So is that of a line whose own cannot be read.
///
/// The body's fields are those of OpenAI's completions, and top_k, min_p, repetition_penalty, ignore_eos,
/// stop_token_ids, return_token_ids and cache_salt as vLLM has them; "priority" is larger for what goes
/// first. null stands for "not given". What cannot be obeyed is an error that names the field; "model",
/// "user", "metadata", "store" and "service_tier" change no answer and are not looked at.
batch_line read_batch_line(std::string_view text, std::uint64_t number,
                           const model::sampling_params& sampling, const model::stop_params& stopping);

/// The error of a line that is longer than the reader takes.
batch_error line_too_long(std::uint64_t number, std::uint64_t bytes);

}  // namespace fastserve::launch
