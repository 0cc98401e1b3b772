#pragma once

#include <filesystem>
#include <string>

#include "model/model_folder.hpp"

namespace fastserve::launch {

/// The text of `fastserve inspect`: architecture, sizes, tokenizer, and what N ranks would hold. Names that
/// come from the files are made printable.
std::string format_model(const std::filesystem::path& folder, const model::model_description& facts);

}  // namespace fastserve::launch
