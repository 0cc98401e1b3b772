#include "model/tokenizer/tokenizer_config.hpp"

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <utility>

#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

namespace {

// A token is written as its text or as an object that has it as "content".
std::optional<std::string> token_text(const json_reader& config, const char* key) {
  if (!config.has(key)) return std::nullopt;
  const json_reader value = config.at(key);
  if (value.raw().is_object()) return value.string("content");
  return value.string();
}

std::optional<bool> flag(const json_reader& config, const char* key) {
  if (!config.has(key)) return std::nullopt;
  return config.boolean_or(key, false);
}

std::int64_t parse_id(const json_reader& where, const std::string& text) {
  std::int64_t id = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc{} || end != text.data() + text.size() || id < 0 || id >= max_vocab_tokens) {
    where.fail("expected token ids below " + std::to_string(max_vocab_tokens) + " as keys");
  }
  return id;
}

token_id checked_id(const json_reader& value) {
  const std::int64_t id = value.integer();
  if (id < 0 || id >= max_vocab_tokens)
    value.fail("is " + std::to_string(id) + ", expected 0 to " + std::to_string(max_vocab_tokens - 1));
  return static_cast<token_id>(id);
}

void read_roles(const json_reader& config, tokenizer_config& out) {
  const auto add = [&](const std::string& text) {
    if (text.empty()) return;
    if (std::find(out.special.begin(), out.special.end(), text) == out.special.end())
      out.special.push_back(text);
  };
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (const auto text = token_text(config, key)) add(*text);
  }
  // Those without a role: a list, by transformers 5's name perhaps an object of them.
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    if (!config.has(key)) continue;
    const json_reader list = config.at(key);
    if (!list.raw().is_object()) list.array();
    for (const nlohmann::json& item : list.raw()) {
      const json_reader token(item, key);
      add(item.is_object() ? token.string("content") : token.string());
    }
  }
  if (!out.bos) out.bos = token_text(config, "bos_token");
  if (!out.eos) out.eos = token_text(config, "eos_token");
  if (!out.unk) out.unk = token_text(config, "unk_token");
}

// The file of older folders: tokens beyond the vocabulary and their ids, nothing else. As their tokenizers
// do, they are looked for in the text as it is written.
void read_added_tokens(const std::filesystem::path& file, tokenizer_config& out) {
  const nlohmann::json parsed = read_json(file);
  try {
    for (const auto& [text, id] : parsed.items()) {
      added_token token;
      token.content = text;
      token.id = checked_id(json_reader(id, in_quotes(text)));
      token.normalized = false;
      out.added.push_back(std::move(token));
    }
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(file.string() + ": " + error.what());
  }
}

}  // namespace

added_token read_added_token(const json_reader& entry, std::int64_t id) {
  if (id < 0 || id >= max_vocab_tokens) {
    entry.fail("has id " + std::to_string(id) + ", expected 0 to " + std::to_string(max_vocab_tokens - 1));
  }
  added_token token;
  token.content = entry.string("content");
  token.id = static_cast<token_id>(id);
  token.single_word = entry.boolean_or("single_word", false);
  token.lstrip = entry.boolean_or("lstrip", false);
  token.rstrip = entry.boolean_or("rstrip", false);
  token.special = entry.boolean_or("special", false);
  token.normalized = entry.boolean_or("normalized", !token.special);
  return token;
}

tokenizer_config read_tokenizer_config(const std::filesystem::path& model_dir) {
  tokenizer_config out;
  bool lists_added = std::filesystem::exists(model_dir / "tokenizer.json");
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::filesystem::path file = model_dir / name;
    if (!std::filesystem::exists(file)) continue;
    const nlohmann::json parsed = read_json(file);
    try {
      const json_reader config(parsed, "");
      read_roles(config, out);
      if (std::string_view(name) != "tokenizer_config.json") continue;
      out.tokenizer_class = config.string_or("tokenizer_class", "");
      out.add_bos_token = flag(config, "add_bos_token");
      out.add_eos_token = flag(config, "add_eos_token");
      out.add_prefix_space = flag(config, "add_prefix_space");
      out.legacy = flag(config, "legacy");
      out.do_lower_case = flag(config, "do_lower_case");
      out.strip_accents = flag(config, "strip_accents");
      out.tokenize_chinese_chars = flag(config, "tokenize_chinese_chars");
      if (!config.has("added_tokens_decoder")) continue;
      lists_added = true;
      const json_reader added = config.at("added_tokens_decoder");
      for (const auto& [key, value] : added.object().items()) {
        const json_reader entry(value, "added_tokens_decoder." + key);
        out.added.push_back(read_added_token(entry, parse_id(added, key)));
      }
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(file.string() + ": " + error.what());
    }
  }
  const std::filesystem::path older = model_dir / "added_tokens.json";
  if (!lists_added && std::filesystem::exists(older)) read_added_tokens(older, out);
  std::sort(out.added.begin(), out.added.end(),
            [](const added_token& a, const added_token& b) { return a.id < b.id; });
  return out;
}

}  // namespace fastserve::model
