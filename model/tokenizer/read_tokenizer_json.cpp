#include <stdexcept>
#include <utility>

#include "model/tokenizer/bpe_model.hpp"
#include "model/tokenizer/json_components.hpp"
#include "model/tokenizer/tokenizer_files.hpp"
#include "model/tokenizer/unigram_model.hpp"
#include "model/tokenizer/wordpiece_model.hpp"

namespace fastserve::model {

namespace {

const nlohmann::json null_value;

json_reader part(const json_reader& top, const char* key) {
  return top.has(key) ? top.at(key) : json_reader(null_value, key);
}

// {"token": id, ...}
void read_vocab(const json_reader& model, vocabulary& tokens) {
  const json_reader vocab = model.at("vocab");
  for (const auto& [token, id] : vocab.object().items()) {
    if (!id.is_number_integer()) vocab.fail("expected an integer as id of " + in_quotes(token));
    if (id.is_number_unsigned() && id.get<std::uint64_t>() > std::uint64_t{max_vocab_tokens}) {
      vocab.fail("token " + in_quotes(token) + " has too large an id");
    }
    tokens.add(token, id.get<std::int64_t>());
  }
}

// A merge is "left right" or ["left", "right"].
bpe_merge read_merge(const json_reader& list, const nlohmann::json& item, std::size_t rank,
                     const vocabulary& tokens) {
  if (item.is_string()) {
    const auto& text = item.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      list.fail("merge " + std::to_string(rank) + " is " + in_quotes(text) + ", expected two tokens");
    }
    const std::string_view view = text;
    return find_merge(tokens, view.substr(0, space), view.substr(space + 1), rank);
  }
  if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_string()) {
    list.fail("expected two tokens as merge " + std::to_string(rank));
  }
  return find_merge(tokens, item[0].get_ref<const std::string&>(), item[1].get_ref<const std::string&>(),
                    rank);
}

std::unique_ptr<subword_model> read_bpe(const json_reader& model, const vocabulary& tokens, bool byte_level) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.string_or(key, "").empty()) model.fail(std::string("'") + key + "' is not supported");
  }
  bpe_options options;
  options.byte_level = byte_level;
  options.byte_fallback = model.boolean_or("byte_fallback", false) && !byte_level;
  options.fuse_unk = model.boolean_or("fuse_unk", false);
  options.ignore_merges = model.boolean_or("ignore_merges", false);
  if (model.has("unk_token")) options.unk = tokens.id_of(model.string("unk_token"));
  const json_reader list = model.at("merges");
  std::vector<bpe_merge> merges;
  merges.reserve(list.array().size());
  for (const nlohmann::json& item : list.array()) {
    merges.push_back(read_merge(list, item, merges.size(), tokens));
  }
  return bpe_model::from_merges(tokens, merges, options);
}

std::unique_ptr<subword_model> read_wordpiece_model(const json_reader& model, const vocabulary& tokens) {
  const std::string unk = model.string_or("unk_token", "[UNK]");
  const auto id = tokens.id_of(unk);
  if (!id) model.fail("the unknown token " + in_quotes(unk) + " is not in the vocabulary");
  const std::int64_t longest = model.integer_or("max_input_chars_per_word", 100);
  if (longest < 0 || longest > 100'000) model.fail("expected max_input_chars_per_word from 0 to 100000");
  return std::make_unique<wordpiece_model>(tokens, *id, model.string_or("continuing_subword_prefix", "##"),
                                           static_cast<std::size_t>(longest));
}

// Old files leave the type out.
std::string type_of(const json_reader& model) {
  if (model.has("type")) return model.string("type");
  if (model.has("merges")) return "BPE";
  if (model.has("vocab") && model.at("vocab").raw().is_array()) return "Unigram";
  return "WordPiece";
}

void read_added(const json_reader& top, tokenizer_parts& parts) {
  if (!top.has("added_tokens")) return;
  for (const json_reader& entry : top.items("added_tokens")) {
    added_token token = read_added_token(entry, entry.at("id").integer());
    const std::string* other = parts.tokens.token_of(token.id);
    if (other != nullptr && *other != token.content && !parts.tokens.id_of(token.content)) {
      entry.fail("id " + std::to_string(token.id) + " is given to both " + in_quotes(*other) + " and " +
                 in_quotes(token.content));
    }
    if (!token.content.empty() && !parts.tokens.id_of(token.content)) {
      parts.tokens.add(token.content, token.id);
    }
    token.id = parts.tokens.id_of(token.content).value_or(token.id);
    if (!token.content.empty()) parts.added.push_back(std::move(token));
  }
}

}  // namespace

tokenizer_parts read_tokenizer_json(const std::filesystem::path& file, const tokenizer_config& config) {
  const nlohmann::json parsed = read_json(file);
  const json_reader top(parsed, "");
  const json_reader model = top.at("model");
  model.object();
  tokenizer_parts parts;
  parts.normalize = read_normalizer(part(top, "normalizer"));
  pre_tokenizer_choice choice = read_pre_tokenizer(part(top, "pre_tokenizer"), config.add_prefix_space);
  parts.split = std::move(choice.split);

  const std::string type = type_of(model);
  if (choice.byte_level && type != "BPE") model.fail("a byte-level " + type + " model is not supported");
  if (type == "BPE") {
    read_vocab(model, parts.tokens);
    parts.model = read_bpe(model, parts.tokens, choice.byte_level);
  } else if (type == "WordPiece") {
    read_vocab(model, parts.tokens);
    parts.model = read_wordpiece_model(model, parts.tokens);
  } else if (type == "Unigram") {
    parts.model = read_unigram(model, parts.tokens);
  } else {
    model.fail("model type " + in_quotes(type) + " is not supported");
  }
  read_added(top, parts);
  add_configured_tokens(parts, config);

  post_tokens around = read_post_processor(part(top, "post_processor"));
  parts.before = std::move(around.before);
  parts.after = std::move(around.after);
  parts.pieces = read_decoder(part(top, "decoder")).build(parts.tokens, parts.added);
  return parts;
}

}  // namespace fastserve::model
