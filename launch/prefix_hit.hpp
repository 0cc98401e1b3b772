#pragma once

#include <cstdint>

#include "launch/engine.hpp"

namespace fastserve::launch {

/// What finding a whole prompt in the prefix cache is worth; medians.
struct prefix_hit {
  double first_token_us = 0;  ///< of a prompt whose KV is all there, from submit to answer
  double step_us = 0;         ///< between two tokens of the same answers
};

/// Asks for the same prompt of `prompt_tokens` random tokens again and again, alone: all but the first find
/// it in the cache. No other front end may be open; ends its own. Throws std::runtime_error when a request
/// fails.
prefix_hit measure_prefix_hit(engine& e, std::int32_t prompt_tokens);

}  // namespace fastserve::launch
