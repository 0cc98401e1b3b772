#pragma once

#include <optional>
#include <string_view>
#include <vector>

/// The pre-tokenizer patterns that most models share, by hand: several times faster than any regular
/// expression.
namespace fastserve::model {

enum class known_pattern {
  gpt2,    ///< GPT-2, RoBERTa, ...
  llama3,  ///< tiktoken's cl100k and Llama 3: up to three digits a word
  qwen2,   ///< the same with one digit a word
};

/// The pattern that an expression spells, if it is one of those.
std::optional<known_pattern> recognise_pattern(std::string_view expression);

/// Its expression, as tokenizer.json has it.
std::string_view expression_of(known_pattern pattern);

/// Appends the words of well-formed text. They cover it.
void scan_pattern(known_pattern pattern, std::string_view text, std::vector<std::string_view>& words);

}  // namespace fastserve::model
