#pragma once

#include <memory>

#include "model/gguf.hpp"
#include "model/tokenizer/tokenizer.hpp"

namespace fastserve::model {

/// The tokenizer in a GGUF file's metadata; null when there is none. Throws std::runtime_error with one line.
std::unique_ptr<tokenizer> gguf_tokenizer(const gguf_file& file);

}  // namespace fastserve::model
