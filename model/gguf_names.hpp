#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/architecture.hpp"
#include "model/tensor_names.hpp"

namespace fastserve::model {

/// What GGUF files call the modules of every decoder.
extern const tensor_names gguf_names;

/// Names of a model's modules as {Hugging Face, GGUF}, without ".weight" and ".bias".
std::vector<std::pair<std::string, std::string>> gguf_modules(std::string_view model_type,
                                                              std::int32_t layers);

}  // namespace fastserve::model
