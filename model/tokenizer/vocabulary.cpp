#include "model/tokenizer/vocabulary.hpp"

#include <cstdio>
#include <stdexcept>

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

void vocabulary::add(std::string_view token, std::int64_t id) {
  if (id < 0 || id >= max_vocab_tokens) {
    throw std::runtime_error("token " + in_quotes(token) + " has id " + std::to_string(id) +
                             ", expected 0 to " + std::to_string(max_vocab_tokens - 1));
  }
  if (token.size() > max_token_bytes) {
    throw std::runtime_error("token " + in_quotes(token) + " has " + std::to_string(token.size()) +
                             " bytes, expected at most " + std::to_string(max_token_bytes));
  }
  const auto index = static_cast<std::size_t>(id);
  if (index < tokens_.size() && tokens_[index]) {
    throw std::runtime_error("id " + std::to_string(id) + " is given to both " + in_quotes(*tokens_[index]) +
                             " and " + in_quotes(token));
  }
  if (!ids_.insert(token, static_cast<token_id>(id))) {
    throw std::runtime_error("token " + in_quotes(token) + " has both id " + std::to_string(*id_of(token)) +
                             " and " + std::to_string(id));
  }
  if (index >= tokens_.size()) tokens_.resize(index + 1);
  tokens_[index] = std::string(token);
}

std::optional<token_id> vocabulary::id_of(std::string_view token) const {
  const std::int32_t found = ids_.find(token);
  if (found == string_table::none) return std::nullopt;
  return found;
}

const std::string* vocabulary::token_of(token_id id) const {
  if (id < 0 || id >= size()) return nullptr;
  const std::optional<std::string>& token = tokens_[static_cast<std::size_t>(id)];
  return token ? &*token : nullptr;
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t longest_bytes = 60;
  const std::string whole = utf8::repaired(text);
  std::string out = "'";
  for (std::size_t i = 0; i < whole.size();) {
    const utf8::character c = utf8::at(whole, i);
    if (out.size() > longest_bytes) return out + "...'";
    if (c.code < 0x20 || (c.code >= 0x7F && c.code < 0xA0) || c.code == 0x2028 || c.code == 0x2029) {
      char escape[16];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c.code));
      out += escape;
    } else {
      out += whole.substr(i, c.size);
    }
    i += c.size;
  }
  return out + "'";
}

}  // namespace fastserve::model
