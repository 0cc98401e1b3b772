#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/batch_request.hpp"
#include "model/tokenizer/tokenizer.hpp"

namespace fastserve::launch {

/// One of the answers to a line of a batch.
struct batch_choice {
  std::string text;
  std::string finish_reason;
  std::int32_t completion_tokens = 0;
  std::vector<model::sampled_token> tokens;  ///< where logprobs or token_ids ask for them
};

/// What a line of a batch is answered with.
struct batch_answer {
  std::uint64_t line = 0;  ///< of the input, from 1
  std::string custom_id;
  std::int32_t prompt_tokens = 0;
  bool logprobs = false;
  std::int32_t alternatives = 0;
  bool token_ids = false;
  std::vector<batch_choice> choices{1};  ///< "n" of them

  std::int32_t completion_tokens() const;  ///< of all choices
};

/// What is the same in every line of a batch's output.
struct batch_facts {
  std::string model;         ///< as the answers name it
  std::int64_t created = 0;  ///< when the batch began, seconds since 1970
  const model::tokenizer* tokenizer = nullptr;
};

/// One line of output without its newline, as OpenAI's batch has it. Nothing in it depends on when or where
/// the request was computed, so a line that is computed again is the same. Always valid UTF-8.
std::string format_batch_answer(const batch_answer& answer, const batch_facts& facts);
std::string format_batch_error(std::uint64_t line, const batch_error& error);

}  // namespace fastserve::launch
