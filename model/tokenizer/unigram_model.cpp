#include "model/tokenizer/unigram_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

unigram_model::unigram_model(const vocabulary& tokens, const std::vector<double>& scores, token_id unk,
                             bool byte_fallback)
    : token_of_node_(1, -1), scores_(scores), unk_(unk), byte_fallback_(byte_fallback) {
  double lowest = std::numeric_limits<double>::infinity();
  for (token_id id = 0; id < tokens.size(); ++id) {
    const std::string* token = tokens.token_of(id);
    if (token == nullptr) continue;
    lowest = std::min(lowest, scores_[static_cast<std::size_t>(id)]);
    if (token->empty()) continue;
    symbol_id node = 0;
    for (const char c : *token) {
      const auto byte = static_cast<unsigned char>(c);
      if (const merge_rule* next = trie_.find(node, byte)) {
        node = next->result;
        continue;
      }
      const auto fresh = static_cast<symbol_id>(token_of_node_.size());
      trie_.set(node, byte, {0, fresh});
      token_of_node_.push_back(-1);
      node = fresh;
    }
    token_of_node_[static_cast<std::size_t>(node)] = id;
  }
  constexpr double unknown_penalty = 10.0;
  unk_score_ = lowest - unknown_penalty;
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    fallback_[static_cast<std::size_t>(byte)] = tokens.id_of(name).value_or(-1);
  }
}

void unigram_model::encode(std::string_view word, encode_scratch&, std::vector<token_id>& out) const {
  struct node {
    double score = 0;
    std::size_t start = 0;
    token_id token = -1;
  };
  // best[i]: the best way to reach byte i.
  std::vector<node> best(word.size() + 1);
  const auto offer = [&](std::size_t start, std::size_t end, token_id token, double score) {
    node& there = best[end];
    if (there.token < 0 || score > there.score) there = {score, start, token};
  };
  for (std::size_t start = 0; start < word.size();) {
    const std::size_t one = utf8::length(word[start]);
    const double here = best[start].score;
    bool covered = false;
    symbol_id at = 0;
    for (std::size_t end = start; end < word.size(); ++end) {
      const merge_rule* next = trie_.find(at, static_cast<unsigned char>(word[end]));
      if (next == nullptr) break;
      at = next->result;
      const token_id token = token_of_node_[static_cast<std::size_t>(at)];
      if (token < 0) continue;
      offer(start, end + 1, token, scores_[static_cast<std::size_t>(token)] + here);
      covered = covered || end + 1 - start == one;
    }
    if (!covered) offer(start, start + one, unk_, unk_score_ + here);
    start += one;
  }
  const std::size_t first = out.size();
  for (std::size_t end = word.size(); end > 0;) {
    const node& last = best[end];
    std::size_t start = last.start;
    if (last.token != unk_) {
      out.push_back(last.token);
    } else {
      while (start > 0 && best[start].token == unk_) start = best[start].start;
      emit_unknown(word.substr(start, end - start), out);
    }
    end = start;
  }
  std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
}

// Last to first: the caller turns the tokens round.
void unigram_model::emit_unknown(std::string_view text, std::vector<token_id>& out) const {
  const bool bytes = byte_fallback_ && std::all_of(text.begin(), text.end(), [&](char c) {
                       return fallback_[static_cast<unsigned char>(c)] >= 0;
                     });
  if (!bytes) {
    out.push_back(unk_);
    return;
  }
  for (auto c = text.rbegin(); c != text.rend(); ++c) {
    out.push_back(fallback_[static_cast<unsigned char>(*c)]);
  }
}

std::unique_ptr<subword_model> read_unigram(const json_reader& model, vocabulary& tokens) {
  const json_reader vocab = model.at("vocab");
  std::vector<double> scores;
  for (const nlohmann::json& entry : vocab.array()) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number() ||
        !std::isfinite(entry[1].get<double>())) {
      vocab.fail("expected a token and its score as entry " + std::to_string(scores.size()));
    }
    tokens.add(entry[0].get_ref<const std::string&>(), static_cast<std::int64_t>(scores.size()));
    scores.push_back(entry[1].get<double>());
  }
  const std::int64_t unk = model.at("unk_id").integer();
  if (unk < 0 || unk >= tokens.size()) model.fail("unk_id " + std::to_string(unk) + " is no token");
  return std::make_unique<unigram_model>(tokens, scores, static_cast<token_id>(unk),
                                         model.boolean_or("byte_fallback", false));
}

}  // namespace fastserve::model
