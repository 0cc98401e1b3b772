#include "model/tokenizer/json_components.hpp"

#include <stdexcept>
#include <utility>

#include "model/tokenizer/charsmap.hpp"
#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

namespace {

constexpr int deepest = 16;  // sequences in sequences

void check_depth(const json_reader& value, int depth) {
  if (depth > deepest) value.fail("is nested deeper than " + std::to_string(deepest));
}

// A pattern is {"String": text} or {"Regex": expression}.
split_pattern read_pattern(const json_reader& pattern) {
  if (pattern.has("String")) return split_pattern::literal(pattern.string("String"));
  const std::string expression = pattern.string("Regex");
  try {
    return split_pattern(expression);
  } catch (const std::runtime_error& error) {
    pattern.fail(error.what());
  }
}

std::unique_ptr<normalizer> read_normalizer_at(const json_reader& value, int depth) {
  check_depth(value, depth);
  const std::string type = value.string("type");
  if (type == "Sequence") {
    std::vector<std::unique_ptr<normalizer>> steps;
    for (const json_reader& step : value.items("normalizers")) {
      steps.push_back(read_normalizer_at(step, depth + 1));
    }
    return make_normalizer_sequence(std::move(steps));
  }
  if (type == "NFC") return make_unicode_normalizer(unicode_form::nfc);
  if (type == "NFD") return make_unicode_normalizer(unicode_form::nfd);
  if (type == "NFKC") return make_unicode_normalizer(unicode_form::nfkc);
  if (type == "NFKD") return make_unicode_normalizer(unicode_form::nfkd);
  if (type == "Lowercase") return make_lowercase_normalizer();
  if (type == "StripAccents") return make_strip_accents_normalizer();
  if (type == "Strip") {
    return make_strip_normalizer(value.boolean_or("strip_left", true), value.boolean_or("strip_right", true));
  }
  if (type == "Prepend") return make_prepend_normalizer(value.string("prepend"));
  if (type == "Replace") {
    const json_reader pattern = value.at("pattern");
    std::string content = value.string("content");
    if (pattern.has("String")) return make_replace_normalizer(pattern.string("String"), std::move(content));
    return make_replace_normalizer(read_pattern(pattern), std::move(content));
  }
  if (type == "BertNormalizer") {
    bert_options options;
    options.clean_text = value.boolean_or("clean_text", true);
    options.handle_chinese_chars = value.boolean_or("handle_chinese_chars", true);
    options.lowercase = value.boolean_or("lowercase", true);
    options.strip_accents = value.boolean_or("strip_accents", options.lowercase);
    return make_bert_normalizer(options);
  }
  if (type == "Precompiled") {
    try {
      return make_charsmap_normalizer(decode_base64(value.string("precompiled_charsmap")));
    } catch (const std::runtime_error& error) {
      value.fail(error.what());
    }
  }
  value.fail("normalizer " + in_quotes(type) + " is not supported");
}

split_behavior read_behavior(const json_reader& value, const char* fallback) {
  const std::string name = value.string_or("behavior", fallback);
  if (name == "Removed") return split_behavior::removed;
  if (name == "Isolated") return split_behavior::isolated;
  if (name == "MergedWithPrevious") return split_behavior::merged_with_previous;
  if (name == "MergedWithNext") return split_behavior::merged_with_next;
  if (name == "Contiguous") return split_behavior::contiguous;
  value.fail("split behavior " + in_quotes(name) + " is not supported");
}

std::unique_ptr<pre_tokenizer> read_split(const json_reader& value) {
  const json_reader pattern = value.at("pattern");
  const split_behavior behavior = read_behavior(value, "");
  const bool invert = value.boolean_or("invert", false);
  // The known patterns cover any text, so isolating the matches and removing all else are the same.
  const bool words = behavior == split_behavior::isolated || (behavior == split_behavior::removed && invert);
  if (words && pattern.has("Regex")) {
    if (const auto known = recognise_pattern(pattern.string("Regex"))) return make_pattern_split(*known);
  }
  return make_split(read_pattern(pattern), behavior, invert);
}

std::unique_ptr<pre_tokenizer> read_metaspace(const json_reader& value) {
  const std::string name =
      value.string_or("prepend_scheme", value.boolean_or("add_prefix_space", true) ? "always" : "never");
  prepend_scheme scheme = prepend_scheme::always;
  if (name == "first") {
    scheme = prepend_scheme::first;
  } else if (name == "never") {
    scheme = prepend_scheme::never;
  } else if (name != "always") {
    value.fail("prepend scheme " + in_quotes(name) + " is not supported");
  }
  const std::string replacement = value.string_or("replacement", "\xE2\x96\x81");
  if (replacement.empty()) value.fail("has an empty replacement");
  return make_metaspace(replacement, scheme, value.boolean_or("split", true));
}

using pre_tokenizer_steps = std::vector<std::unique_ptr<pre_tokenizer>>;

void read_pre_tokenizer_at(const json_reader& value, std::optional<bool> add_prefix_space, int depth,
                           pre_tokenizer_steps& steps, bool& byte_level) {
  check_depth(value, depth);
  const std::string type = value.string("type");
  if (byte_level) value.fail("a pre-tokenizer after ByteLevel is not supported");
  if (type == "Sequence") {
    for (const json_reader& step : value.items("pretokenizers")) {
      read_pre_tokenizer_at(step, add_prefix_space, depth + 1, steps, byte_level);
    }
  } else if (type == "ByteLevel") {
    byte_level = true;
    const bool own = value.boolean_or("add_prefix_space", true);
    if (depth == 0 ? add_prefix_space.value_or(own) : own) steps.push_back(make_prefix_space());
    if (value.boolean_or("use_regex", true)) steps.push_back(make_pattern_split(known_pattern::gpt2));
  } else if (type == "Split") {
    steps.push_back(read_split(value));
  } else if (type == "BertPreTokenizer") {
    steps.push_back(make_class_split(is_space, split_behavior::removed));
    steps.push_back(make_class_split(bert_punctuation, split_behavior::isolated));
  } else if (type == "Punctuation") {
    steps.push_back(make_class_split(bert_punctuation, read_behavior(value, "Isolated")));
  } else if (type == "Digits") {
    steps.push_back(make_class_split(is_numeric, value.boolean_or("individual_digits", false)
                                                     ? split_behavior::isolated
                                                     : split_behavior::contiguous));
  } else if (type == "WhitespaceSplit") {
    steps.push_back(make_class_split(is_space, split_behavior::removed));
  } else if (type == "Whitespace") {
    steps.push_back(make_word_split());
  } else if (type == "Metaspace") {
    steps.push_back(read_metaspace(value));
  } else {
    value.fail("pre-tokenizer " + in_quotes(type) + " is not supported");
  }
}

std::size_t read_count(const json_reader& value, const char* key) {
  const std::int64_t count = value.integer_or(key, 0);
  if (count < 0 || count > 1024) value.fail(std::string("expected '") + key + "' from 0 to 1024");
  return static_cast<std::size_t>(count);
}

void read_decoder_at(const json_reader& value, int depth, token_decoder& out) {
  check_depth(value, depth);
  const std::string type = value.string("type");
  if (type == "Sequence") {
    for (const json_reader& step : value.items("decoders")) read_decoder_at(step, depth + 1, out);
  } else if (type == "ByteLevel") {
    out.byte_level();
  } else if (type == "ByteFallback") {
    out.byte_fallback();
  } else if (type == "Fuse") {
    out.fuse();
  } else if (type == "Replace" && value.at("pattern").has("String")) {
    out.replace(value.at("pattern").string("String"), value.string("content"));
  } else if (type == "Metaspace") {
    const std::string scheme =
        value.string_or("prepend_scheme", value.boolean_or("add_prefix_space", true) ? "always" : "never");
    out.metaspace(value.string_or("replacement", "\xE2\x96\x81"), scheme != "never");
  } else if (type == "WordPiece") {
    out.wordpiece(value.string_or("prefix", "##"), value.boolean_or("cleanup", true));
  } else if (type == "Strip") {
    out.strip(value.string_or("content", " "), read_count(value, "start"), read_count(value, "stop"));
  } else {
    value.fail("decoder " + in_quotes(type) + " is not supported");
  }
}

token_id read_id(const json_reader& value) {
  const std::int64_t id = value.integer();
  if (id < 0 || id >= max_vocab_tokens) value.expected("a token id");
  return static_cast<token_id>(id);
}

// "single": [{"SpecialToken": {"id": NAME}}, {"Sequence": {"id": "A"}}, ...] with the ids of each NAME beside
// it.
post_tokens read_template(const json_reader& value) {
  post_tokens out;
  bool seen_text = false;
  for (const json_reader& item : value.items("single")) {
    if (item.has("Sequence")) {
      if (seen_text) item.fail("a template with two texts is not supported");
      seen_text = true;
      continue;
    }
    const std::string name = item.at("SpecialToken").string("id");
    const json_reader known = value.at("special_tokens").at(name.c_str());
    for (const json_reader& id : known.items("ids")) {
      (seen_text ? out.after : out.before).push_back(read_id(id));
    }
  }
  if (!seen_text) value.fail("the template has no place for the text");
  return out;
}

// "cls": ["<s>", 0]
token_id read_named_id(const json_reader& value, const char* key) {
  const auto items = value.items(key);
  if (items.size() != 2) value.at(key).expected("a token and its id");
  return read_id(items[1]);
}

post_tokens read_post_processor_at(const json_reader& value, int depth) {
  check_depth(value, depth);
  const std::string type = value.string("type");
  if (type == "TemplateProcessing") return read_template(value);
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    return {{read_named_id(value, "cls")}, {read_named_id(value, "sep")}};
  }
  if (type == "ByteLevel") return {};
  if (type == "Sequence") {
    post_tokens out;
    for (const json_reader& step : value.items("processors")) {
      const post_tokens around = read_post_processor_at(step, depth + 1);
      out.before.insert(out.before.begin(), around.before.begin(), around.before.end());
      out.after.insert(out.after.end(), around.after.begin(), around.after.end());
    }
    return out;
  }
  value.fail("post-processor " + in_quotes(type) + " is not supported");
}

}  // namespace

std::unique_ptr<normalizer> read_normalizer(const json_reader& value) {
  return value.raw().is_null() ? nullptr : read_normalizer_at(value, 0);
}

pre_tokenizer_choice read_pre_tokenizer(const json_reader& value, std::optional<bool> add_prefix_space) {
  pre_tokenizer_choice out;
  if (value.raw().is_null()) return out;
  pre_tokenizer_steps steps;
  read_pre_tokenizer_at(value, add_prefix_space, 0, steps, out.byte_level);
  if (steps.size() == 1) {
    out.split = std::move(steps.front());
  } else if (!steps.empty()) {
    out.split = make_pre_tokenizer_sequence(std::move(steps));
  }
  return out;
}

token_decoder read_decoder(const json_reader& value) {
  token_decoder out;
  if (value.raw().is_null()) return out;
  try {
    read_decoder_at(value, 0, out);
  } catch (const std::runtime_error& error) {
    if (std::string_view(error.what()).starts_with("at ")) throw;
    value.fail(error.what());
  }
  return out;
}

post_tokens read_post_processor(const json_reader& value) {
  return value.raw().is_null() ? post_tokens{} : read_post_processor_at(value, 0);
}

}  // namespace fastserve::model
