#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/tokenizer.hpp"

namespace fastserve::model {

/// What the "tokenizer.ggml." keys of a GGUF file say, unjudged.
struct gguf_vocabulary {
  std::string model;                     ///< "llama" (SentencePiece's byte pairs) or "gpt2" (byte-level)
  std::string pre;                       ///< name of the pre-tokenizer, of byte-level models
  std::vector<std::string_view> tokens;  ///< by id
  std::vector<float> scores;
  std::vector<std::int32_t> types;  ///< 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<std::string_view> merges;
  std::int64_t bos = -1;
  std::int64_t eos = -1;
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  bool add_space_prefix = true;
  bool remove_extra_whitespaces = false;
};

/// The tokenizer of a GGUF file. Throws std::runtime_error, one line that begins with `file`.
std::unique_ptr<tokenizer> load_tokenizer(const gguf_vocabulary& from, const std::string& file);

}  // namespace fastserve::model
