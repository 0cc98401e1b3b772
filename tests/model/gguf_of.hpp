#pragma once

#include <string>

#include "gguf_writer.hpp"
#include "model/model_folder.hpp"

namespace fastserve::model::test {

/// A model as its GGUF file, all in F32: names, metadata and the order of Llama's query and key rows as
/// converters write them. Layers with different windows cannot be said in GGUF.
gguf_writer gguf_of(model_folder& model);

}  // namespace fastserve::model::test
