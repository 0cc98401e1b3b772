#include "model/tokenizer/added_tokens.hpp"

#include <algorithm>
#include <stdexcept>

#include "model/tokenizer/unicode_class.hpp"
#include "model/tokenizer/utf8.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

added_token_matcher::added_token_matcher(const std::vector<std::string>& patterns,
                                         const std::vector<added_token>& tokens)
    : tokens_(tokens), token_of_node_(1, -1) {
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (patterns[i].empty()) continue;
    if (patterns[i].size() > max_token_bytes) {
      throw std::runtime_error("added token " + in_quotes(patterns[i]) + " has " +
                               std::to_string(patterns[i].size()) + " bytes, expected at most " +
                               std::to_string(max_token_bytes));
    }
    starts_[static_cast<unsigned char>(patterns[i][0])] = true;
    std::uint32_t node = 0;
    for (const char c : patterns[i]) {
      const std::uint64_t key = static_cast<std::uint64_t>(node) << 8 | static_cast<unsigned char>(c);
      const auto [at, fresh] = children_.try_emplace(key, static_cast<std::uint32_t>(token_of_node_.size()));
      if (fresh) token_of_node_.push_back(-1);
      node = at->second;
    }
    if (token_of_node_[node] < 0) token_of_node_[node] = static_cast<std::int64_t>(i);
  }
}

std::uint32_t added_token_matcher::child(std::uint32_t node, unsigned char byte) const {
  const auto at = children_.find(static_cast<std::uint64_t>(node) << 8 | byte);
  return at == children_.end() ? no_node : at->second;
}

// The longest pattern at the start of a text; size 0 if there is none.
added_token_matcher::found added_token_matcher::match(std::string_view text) const {
  found best;
  std::uint32_t node = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    node = child(node, static_cast<unsigned char>(text[i]));
    if (node == no_node) break;
    if (token_of_node_[node] >= 0) best = {i + 1, static_cast<std::size_t>(token_of_node_[node])};
  }
  return best;
}

namespace {

bool starts_with_word(std::string_view text) {
  return !text.empty() && (unicode_class(utf8::at(text, 0).code) & is_word) != 0;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && (unicode_class(utf8::back(text).code) & is_word) != 0;
}

std::size_t without_right_space(std::string_view text) {
  while (!text.empty()) {
    const utf8::character last = utf8::back(text);
    if ((unicode_class(last.code) & is_space) == 0) break;
    text.remove_suffix(last.size);
  }
  return text.size();
}

std::size_t left_space(std::string_view text) {
  std::size_t size = 0;
  while (size < text.size()) {
    const utf8::character next = utf8::at(text, size);
    if ((unicode_class(next.code) & is_space) == 0) break;
    size += next.size;
  }
  return size;
}

}  // namespace

void added_token_matcher::split(std::string_view text, std::vector<text_segment>& out) const {
  std::size_t done = 0;  // everything before is in `out`
  for (std::size_t at = 0; at < text.size();) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const found hit = match(text.substr(at));
    if (hit.size == 0) {
      ++at;
      continue;
    }
    std::size_t start = at;
    std::size_t stop = at + hit.size;
    at = stop;
    const added_token& token = tokens_[hit.token];
    if (token.single_word && (ends_with_word(text.substr(0, start)) || starts_with_word(text.substr(stop)))) {
      continue;
    }
    if (token.lstrip) start = std::max(done, without_right_space(text.substr(0, start)));
    if (token.rstrip) stop += left_space(text.substr(stop));
    if (done < start) out.push_back({text.substr(done, start - done), std::nullopt});
    // A match inside of white space that rstrip took is still a token, as in the reference library.
    out.push_back({text.substr(start, stop > start ? stop - start : 0), token.id});
    done = stop;
  }
  if (done < text.size()) out.push_back({text.substr(done), std::nullopt});
}

}  // namespace fastserve::model
