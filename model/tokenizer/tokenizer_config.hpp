#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/tokenizer/added_tokens.hpp"
#include "model/tokenizer/json_reader.hpp"

namespace fastserve::model {

/// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say of a tokenizer. All of it is
/// optional.
struct tokenizer_config {
  std::string tokenizer_class;
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<bool> add_prefix_space;
  std::optional<bool> legacy;
  std::optional<bool> do_lower_case;
  std::optional<bool> strip_accents;
  std::optional<bool> tokenize_chinese_chars;
  std::optional<std::string> bos;
  std::optional<std::string> eos;
  std::optional<std::string> unk;
  /// Tokens with ids: "added_tokens_decoder" or, in folders that have neither it nor a tokenizer.json,
  /// added_tokens.json.
  std::vector<added_token> added;
  /// Texts of all special tokens named by role (bos, eos, unk, pad, ..., additional_special_tokens).
  std::vector<std::string> special;
};

/// Reads these files of a folder, those that are there.
tokenizer_config read_tokenizer_config(const std::filesystem::path& model_dir);

/// An entry of "added_tokens" (tokenizer.json). `id` as the caller knows it.
added_token read_added_token(const json_reader& entry, std::int64_t id);

}  // namespace fastserve::model
