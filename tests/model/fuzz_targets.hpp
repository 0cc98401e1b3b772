#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fastserve::model::test {

/// Each feeds bytes to one parser of files from outside. A parser either succeeds or throws
/// std::runtime_error; returns whether it succeeded. Anything else (a crash, another exception, a wild size)
/// is a bug. What succeeds is checked for the promises that the rest of the program relies on.
bool fuzz_safetensors(std::span<const std::uint8_t> bytes);
bool fuzz_shard_index(std::span<const std::uint8_t> bytes);
bool fuzz_config(std::span<const std::uint8_t> bytes);
bool fuzz_gguf(std::span<const std::uint8_t> bytes);
/// By way of a file in the temporary folder: the architecture, every tensor, the tokenizer.
bool fuzz_gguf_model(std::span<const std::uint8_t> bytes);
/// The head of a file of the pack cache, which is all of the bytes.
bool fuzz_pack_header(std::span<const std::uint8_t> bytes);

}  // namespace fastserve::model::test
