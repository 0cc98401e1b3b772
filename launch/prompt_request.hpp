#pragma once

#include <cstdint>
#include <string>

#include "actors/messages.hpp"
#include "launch/options.hpp"
#include "model/architecture.hpp"
#include "model/tokenizer/tokenizer.hpp"

namespace fastserve::launch {

/// Makes a request of a prompt and the settings of the moment. Text is tokenized with what the model's files
/// put around it; an empty prompt is BOS alone. `tokens` may be null (no tokenizer files). Throws
/// std::runtime_error with one line: a text without a tokenizer, an id outside the vocabulary, no BOS.
actors::submit make_request(std::uint64_t id, const prompt& what, const options& settings,
                            const model::architecture& arch, const model::tokenizer* tokens);

}  // namespace fastserve::launch
