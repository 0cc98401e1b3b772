#include "model/tokenizer/tokenizer_files.hpp"

#include <stdexcept>
#include <unordered_map>
#include <utility>

namespace fastserve::model {

void add_configured_tokens(tokenizer_parts& parts, const tokenizer_config& config) {
  std::unordered_map<token_id, std::size_t> place;  // in parts.added
  for (std::size_t i = 0; i < parts.added.size(); ++i) place.emplace(parts.added[i].id, i);
  const auto put = [&](added_token token) {
    const auto [at, fresh] = place.emplace(token.id, parts.added.size());
    if (fresh) {
      parts.added.push_back(std::move(token));
    } else {
      parts.added[at->second] = std::move(token);
    }
  };
  for (added_token token : config.added) {
    if (token.content.empty()) continue;
    if (const auto known = parts.tokens.id_of(token.content)) {
      token.id = *known;
    } else {
      parts.tokens.add(token.content, token.id);
    }
    put(std::move(token));
  }
  for (const std::string& text : config.special) {
    const auto id = parts.tokens.id_of(text);
    if (!id) continue;
    if (const auto known = place.find(*id); known != place.end()) {
      parts.added[known->second].special = true;
      continue;
    }
    added_token token;
    token.content = text;
    token.id = *id;
    token.normalized = false;
    token.special = true;
    put(std::move(token));
  }
}

namespace {

// The usual names, for folders whose files name no role.
std::optional<token_id> usual(const tokenizer_parts& parts, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    for (const added_token& token : parts.added) {
      if (token.special && token.content == name) return token.id;
    }
  }
  return std::nullopt;
}

}  // namespace

void settle_bos_and_eos(tokenizer_parts& parts, const tokenizer_config& config) {
  if (config.bos) parts.bos = parts.tokens.id_of(*config.bos);
  if (config.eos) parts.eos = parts.tokens.id_of(*config.eos);
  if (!parts.bos && !config.bos) parts.bos = usual(parts, {"<s>", "<|begin_of_text|>", "<bos>", "[CLS]"});
  if (!parts.eos && !config.eos) {
    parts.eos = usual(parts, {"</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "[SEP]"});
  }
  if (config.add_bos_token && parts.bos) {
    const bool there = !parts.before.empty() && parts.before.front() == *parts.bos;
    if (*config.add_bos_token && !there) parts.before.insert(parts.before.begin(), *parts.bos);
    if (!*config.add_bos_token && there) parts.before.erase(parts.before.begin());
  }
  if (config.add_eos_token && parts.eos) {
    const bool there = !parts.after.empty() && parts.after.back() == *parts.eos;
    if (*config.add_eos_token && !there) parts.after.push_back(*parts.eos);
    if (!*config.add_eos_token && there) parts.after.pop_back();
  }
  for (const auto* ids : {&parts.before, &parts.after}) {
    for (const token_id id : *ids) {
      if (parts.tokens.token_of(id) == nullptr) {
        throw std::runtime_error("the post-processor adds id " + std::to_string(id) + ", which is no token");
      }
    }
  }
}

bpe_merge find_merge(const vocabulary& tokens, std::string_view left, std::string_view right,
                     std::size_t rank) {
  const auto left_id = tokens.id_of(left);
  const auto right_id = tokens.id_of(right);
  if (!left_id || !right_id) {
    throw std::runtime_error("merge " + std::to_string(rank) + " names " + in_quotes(left_id ? right : left) +
                             ", which is no token");
  }
  return {*left_id, *right_id};
}

}  // namespace fastserve::model
