#include <algorithm>
#include <array>
#include <cstdio>
#include <stdexcept>
#include <utility>

#include "model/tokenizer/bpe_model.hpp"
#include "model/tokenizer/token_decoder.hpp"
#include "model/tokenizer/tokenizer_files.hpp"
#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

namespace {

enum token_type : std::int32_t { normal = 1, unknown, control, user_defined, unused, byte };

/// A pre-tokenizer by the name that converters give it.
struct named_split {
  std::string_view name;
  known_pattern pattern;
  bool ignore_merges = false;
  bool single_digits = false;  ///< cut out before the pattern is looked for
  bool add_bos = false;
  bool nfc = false;
};

constexpr std::array splits{
    named_split{"gpt-2", known_pattern::gpt2},
    named_split{"phi-2", known_pattern::gpt2},
    named_split{"mpt", known_pattern::gpt2},
    named_split{"olmo", known_pattern::gpt2},
    named_split{"llama-bpe", known_pattern::llama3, true, false, true},
    named_split{"llama3", known_pattern::llama3, true, false, true},
    named_split{"llama-v3", known_pattern::llama3, true, false, true},
    named_split{"falcon3", known_pattern::llama3, true},
    named_split{"smaug-bpe", known_pattern::llama3},
    named_split{"dbrx", known_pattern::llama3},
    named_split{"qwen2", known_pattern::qwen2, false, false, false, true},
    named_split{"deepseek-r1-qwen", known_pattern::qwen2, false, false, false, true},
    named_split{"megrez", known_pattern::qwen2},
    named_split{"smollm", known_pattern::gpt2, false, true},
    named_split{"starcoder", known_pattern::gpt2, false, true},
    named_split{"refact", known_pattern::gpt2, false, true},
    named_split{"command-r", known_pattern::gpt2, false, true},
};

// Mistral's Tekken, which has no scanner of its own.
constexpr std::string_view tekken_expression =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::int32_t type_of(const gguf_vocabulary& from, std::size_t id) {
  return from.types.empty() ? std::int32_t{normal} : from.types[id];
}

void add_tokens(const gguf_vocabulary& from, tokenizer_parts& parts) {
  if (from.tokens.empty()) throw std::runtime_error("tokenizer.ggml.tokens is missing or empty");
  const auto same_length = [&](const char* key, std::size_t count) {
    if (count != from.tokens.size())
      throw std::runtime_error(std::string(key) + " has " + std::to_string(count) + " entries, expected " +
                               std::to_string(from.tokens.size()) + ", one a token");
  };
  if (!from.types.empty()) same_length("tokenizer.ggml.token_type", from.types.size());
  for (std::size_t id = 0; id < from.tokens.size(); ++id) {
    const auto text = from.tokens[id];
    if (!utf8::valid(text))
      throw std::runtime_error("token " + std::to_string(id) + " is " + in_quotes(utf8::repaired(text)) +
                               ", which is no UTF-8");
    const auto type = type_of(from, id);
    if (type < normal || type > byte)
      throw std::runtime_error("token " + std::to_string(id) + " is of type " + std::to_string(type) +
                               ", expected 1 to 6");
    parts.tokens.add(text, static_cast<std::int64_t>(id));
    const bool special = type == control || type == unknown;
    if ((!special && type != user_defined) || text.empty()) continue;
    added_token token;
    token.content = text;
    token.id = static_cast<token_id>(id);
    token.normalized = false;
    token.special = special;
    parts.added.push_back(std::move(token));
  }
}

std::optional<token_id> named_id(const gguf_vocabulary& from, std::int64_t id) {
  if (id < 0 || id >= static_cast<std::int64_t>(from.tokens.size())) return std::nullopt;
  return static_cast<token_id>(id);
}

void read_scores(const gguf_vocabulary& from, tokenizer_parts& parts) {
  if (from.scores.size() != from.tokens.size())
    throw std::runtime_error("tokenizer.ggml.scores has " + std::to_string(from.scores.size()) +
                             " entries, expected " + std::to_string(from.tokens.size()) + ", one a token");
  for (std::size_t id = 0; id < from.scores.size(); ++id)
    if (!(from.scores[id] == from.scores[id]))
      throw std::runtime_error("the score of token " + std::to_string(id) + " is not a number");
  std::array<token_id, 256> bytes{};
  for (int value = 0; value < 256; ++value) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(value));
    const auto id = parts.tokens.id_of(name);
    if (!id) throw std::runtime_error(std::string("has no token ") + name + ", expected one for each byte");
    bytes[static_cast<std::size_t>(value)] = *id;
  }
  std::vector<std::string> pieces;
  for (std::size_t id = 0; id < from.tokens.size(); ++id)
    pieces.emplace_back(type_of(from, id) == normal ? from.tokens[id] : std::string_view());
  parts.model = bpe_model::from_scores(pieces, from.scores, bytes);

  sentencepiece_options options;
  options.add_dummy_prefix = from.add_space_prefix;
  options.remove_extra_whitespaces = from.remove_extra_whitespaces;
  parts.normalize = make_sentencepiece_normalizer(options);
  token_decoder decoder;
  decoder.replace("\xE2\x96\x81", " ");
  decoder.byte_fallback();
  decoder.fuse();
  if (from.add_space_prefix) decoder.strip(" ", 1, 0);
  parts.pieces = decoder.build(parts.tokens, parts.added);
  if (from.add_bos.value_or(true) && parts.bos) parts.before = {*parts.bos};
}

void choose_split(const std::string& name, bpe_options& options, bool& add_bos, tokenizer_parts& parts) {
  if (name == "tekken") {
    options.ignore_merges = true;
    add_bos = true;
    parts.split = make_split(split_pattern(tekken_expression), split_behavior::isolated, false);
    return;
  }
  const auto row = std::find_if(splits.begin(), splits.end(), [&](const auto& s) { return s.name == name; });
  if (row == splits.end()) {
    std::string known = "tekken";
    for (const auto& split : splits) known.append(", ").append(split.name);
    throw std::runtime_error("tokenizer.ggml.pre is " + in_quotes(name) + ", expected one of: " + known);
  }
  options.ignore_merges = row->ignore_merges;
  add_bos = row->add_bos;
  std::vector<std::unique_ptr<pre_tokenizer>> steps;
  if (row->single_digits) steps.push_back(make_class_split(is_numeric, split_behavior::isolated));
  steps.push_back(make_pattern_split(row->pattern));
  parts.split = make_pre_tokenizer_sequence(std::move(steps));
  if (row->nfc) parts.normalize = make_unicode_normalizer(unicode_form::nfc);
}

void read_merges(const gguf_vocabulary& from, tokenizer_parts& parts) {
  std::vector<bpe_merge> merges;
  merges.reserve(from.merges.size());
  for (const auto merge : from.merges) {
    const auto space = merge.find(' ', 1);  // a token may begin with one
    if (space == std::string_view::npos)
      throw std::runtime_error("merge " + std::to_string(merges.size()) + " is " +
                               in_quotes(utf8::repaired(merge)) + ", expected two tokens");
    const auto left = utf8::repaired(merge.substr(0, space));
    const auto right = utf8::repaired(merge.substr(space + 1));
    merges.push_back(find_merge(parts.tokens, left, right, merges.size()));
  }
  if (merges.empty()) throw std::runtime_error("tokenizer.ggml.merges is missing or empty");
  bpe_options options;
  options.byte_level = true;
  bool add_bos = false;
  choose_split(from.pre, options, add_bos, parts);
  parts.model = bpe_model::from_merges(parts.tokens, merges, options);
  token_decoder decoder;
  decoder.byte_level();
  parts.pieces = decoder.build(parts.tokens, parts.added);
  if (from.add_bos.value_or(add_bos) && parts.bos) parts.before = {*parts.bos};
}

}  // namespace

tokenizer_parts read_gguf_vocabulary(const gguf_vocabulary& from) {
  tokenizer_parts parts;
  add_tokens(from, parts);
  parts.bos = named_id(from, from.bos);
  parts.eos = named_id(from, from.eos);
  if (from.model == "llama") {
    read_scores(from, parts);
  } else if (from.model == "gpt2") {
    read_merges(from, parts);
  } else {
    throw std::runtime_error("tokenizer.ggml.model is " + in_quotes(from.model) + ", expected llama or gpt2");
  }
  if (from.add_eos.value_or(false) && parts.eos) parts.after = {*parts.eos};
  return parts;
}

}  // namespace fastserve::model
