#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace fastserve::scheduler {

enum class request_id : std::uint64_t {};
enum class step_id : std::uint64_t {};

/// Time since any fixed moment; the caller's clock.
using time = std::chrono::nanoseconds;

enum class finish_reason : std::uint8_t {
  stop,       ///< an end-of-sequence or stop token, or a stop string
  length,     ///< max_tokens, or the context is full
  cancelled,  ///< the front end took it back
  error       ///< refused or failed; the text says why
};

constexpr const char* name_of(finish_reason r) {
  switch (r) {
    case finish_reason::stop:
      return "stop";
    case finish_reason::length:
      return "length";
    case finish_reason::cancelled:
      return "cancelled";
    case finish_reason::error:
      return "error";
  }
  return "?";
}

/// What the scheduler needs to know of a request. How a token is drawn is not its business.
struct request {
  request_id id{};
  std::vector<std::int32_t> prompt;    ///< at least one token
  std::int32_t max_tokens = 256;       ///< at least one
  std::vector<std::int32_t> stop_ids;  ///< tokens that end the answer (end-of-sequence ids among them)
  std::int32_t priority = 0;           ///< larger goes first
  std::uint64_t cache_salt = 0;        ///< requests share cached prefixes only under the same salt
  std::vector<request_id> choices;     ///< further answers to the same prompt, each a request of its own
  bool runs_ahead = true;  ///< drawing a token takes no more than the logits; false: the text so far, too
};

/// When things happened to a request, on the caller's clock.
struct request_times {
  time arrived{};
  time admitted{};  ///< first micro-batch
  time first_token{};
  time finished{};
};

}  // namespace fastserve::scheduler
