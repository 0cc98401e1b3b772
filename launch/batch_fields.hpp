#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "launch/batch_request.hpp"

namespace fastserve::launch {

/// A line of a batch is not answered: its error's code, and what is wrong.
struct batch_refusal : std::runtime_error {
  batch_refusal(std::string code, const std::string& what)
      : std::runtime_error{what}, code{std::move(code)} {}
  std::string code;
};

/// Stores what the body of a completions request says into `out`, which holds the settings. `plain`: the body
/// is the whole line, so custom_id is one of its fields. Throws batch_refusal.
void read_batch_fields(const nlohmann::json& body, bool plain, batch_request& out);

/// "a number", "an object", ... for messages.
std::string kind_of(const nlohmann::json& value);

}  // namespace fastserve::launch
