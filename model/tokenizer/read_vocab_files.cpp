#include <algorithm>
#include <stdexcept>
#include <utility>

#include "model/tokenizer/bpe_model.hpp"
#include "model/tokenizer/json_reader.hpp"
#include "model/tokenizer/token_decoder.hpp"
#include "model/tokenizer/tokenizer_files.hpp"
#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"
#include "model/tokenizer/wordpiece_model.hpp"

/// The older files that hold a vocabulary and leave the rest to the tokenizer's class.
namespace fastserve::model {

namespace {

// Calls `use(line)` for each line, without its line break.
template <typename Use>
void each_line(std::string_view text, Use use) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    use(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void mark_special(tokenizer_parts& parts, std::string_view text, bool lstrip = false) {
  const auto id = parts.tokens.id_of(text);
  if (!id) return;
  added_token token;
  token.content = text;
  token.id = *id;
  token.lstrip = lstrip;
  token.normalized = false;
  token.special = true;
  parts.added.push_back(std::move(token));
}

// RoBERTa has GPT-2's files with BERT's manners; its vocabulary tells.
bool is_roberta(const vocabulary& tokens, const tokenizer_config& config) {
  return config.tokenizer_class.starts_with("Roberta") ||
         (config.tokenizer_class.empty() && tokens.id_of("<s>") && tokens.id_of("</s>") &&
          tokens.id_of("<mask>"));
}

}  // namespace

tokenizer_parts read_vocab_and_merges(const std::filesystem::path& vocab_file,
                                      const std::filesystem::path& merges_file,
                                      const tokenizer_config& config) {
  tokenizer_parts parts;
  const nlohmann::json vocab = read_json(vocab_file);
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<std::uint64_t>() > INT64_MAX)) {
      throw std::runtime_error("expected an integer as id of " + in_quotes(token));
    }
    parts.tokens.add(token, id.get<std::int64_t>());
  }

  std::vector<bpe_merge> merges;
  const std::string text = read_file(merges_file);
  std::size_t number = 0;
  each_line(text, [&](std::string_view line) {
    ++number;
    if (line.empty() || (number == 1 && line.starts_with("#version"))) return;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      throw std::runtime_error(merges_file.filename().string() + " line " + std::to_string(number) + " is " +
                               in_quotes(line) + ", expected two tokens");
    }
    merges.push_back(find_merge(parts.tokens, line.substr(0, space), line.substr(space + 1), merges.size()));
  });

  bpe_options options;
  options.byte_level = true;
  parts.model = bpe_model::from_merges(parts.tokens, merges, options);

  const bool qwen = config.tokenizer_class.starts_with("Qwen");
  std::vector<std::unique_ptr<pre_tokenizer>> steps;
  if (config.add_prefix_space.value_or(false)) steps.push_back(make_prefix_space());
  steps.push_back(make_pattern_split(qwen ? known_pattern::qwen2 : known_pattern::gpt2));
  parts.split = make_pre_tokenizer_sequence(std::move(steps));
  if (qwen) parts.normalize = make_unicode_normalizer(unicode_form::nfc);

  for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) mark_special(parts, token);
  if (is_roberta(parts.tokens, config)) {
    for (const char* token : {"<s>", "<pad>", "</s>", "<unk>"}) mark_special(parts, token);
    mark_special(parts, "<mask>", true);
    parts.before = {*parts.tokens.id_of("<s>")};
    parts.after = {*parts.tokens.id_of("</s>")};
  }
  add_configured_tokens(parts, config);
  token_decoder decoder;
  decoder.byte_level();
  parts.pieces = decoder.build(parts.tokens, parts.added);
  return parts;
}

tokenizer_parts read_wordpiece(const std::filesystem::path& file, const tokenizer_config& config) {
  tokenizer_parts parts;
  const std::string text = read_file(file);
  std::int64_t next = 0;
  each_line(text, [&](std::string_view line) {
    if (!utf8::valid(line)) throw std::runtime_error("line " + std::to_string(next + 1) + " is no UTF-8");
    parts.tokens.add(line, next++);
  });
  const std::string unk = config.unk.value_or("[UNK]");
  const auto unk_id = parts.tokens.id_of(unk);
  if (!unk_id) throw std::runtime_error("the unknown token " + in_quotes(unk) + " is not in the vocabulary");
  constexpr std::size_t longest_word_characters = 100;
  parts.model = std::make_unique<wordpiece_model>(parts.tokens, *unk_id, "##", longest_word_characters);

  bert_options options;
  options.lowercase = config.do_lower_case.value_or(true);
  options.strip_accents = config.strip_accents.value_or(options.lowercase);
  options.handle_chinese_chars = config.tokenize_chinese_chars.value_or(true);
  parts.normalize = make_bert_normalizer(options);
  std::vector<std::unique_ptr<pre_tokenizer>> steps;
  steps.push_back(make_class_split(is_space, split_behavior::removed));
  steps.push_back(make_class_split(bert_punctuation, split_behavior::isolated));
  parts.split = make_pre_tokenizer_sequence(std::move(steps));

  for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) mark_special(parts, token);
  add_configured_tokens(parts, config);
  const auto first = parts.tokens.id_of("[CLS]");
  const auto last = parts.tokens.id_of("[SEP]");
  if (first && last) {
    parts.before = {*first};
    parts.after = {*last};
  }
  token_decoder decoder;
  decoder.wordpiece("##", true);
  parts.pieces = decoder.build(parts.tokens, parts.added);
  return parts;
}

}  // namespace fastserve::model
