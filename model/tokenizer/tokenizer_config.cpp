#include "model/tokenizer/tokenizer_config.hpp"

#include <algorithm>
#include <charconv>
#include <stdexcept>

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

void read_roles(const json_reader& config, tokenizer_config& out) {
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto text = token_text(config, key);
    if (!text || text->empty()) continue;
    if (std::find(out.special.begin(), out.special.end(), *text) == out.special.end()) {
      out.special.push_back(*text);
    }
  }
  if (!out.bos) out.bos = token_text(config, "bos_token");
  if (!out.eos) out.eos = token_text(config, "eos_token");
  if (!out.unk) out.unk = token_text(config, "unk_token");
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
      const json_reader added = config.at("added_tokens_decoder");
      for (const auto& [key, value] : added.object().items()) {
        const json_reader entry(value, "added_tokens_decoder." + key);
        out.added.push_back(read_added_token(entry, parse_id(added, key)));
      }
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(file.string() + ": " + error.what());
    }
  }
  std::sort(out.added.begin(), out.added.end(),
            [](const added_token& a, const added_token& b) { return a.id < b.id; });
  return out;
}

}  // namespace fastserve::model
