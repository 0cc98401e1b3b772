#include <algorithm>
#include <cstdio>
#include <numeric>
#include <stdexcept>

#include "model/tokenizer/bpe_model.hpp"
#include "model/tokenizer/byte_alphabet.hpp"
#include "model/tokenizer/utf8.hpp"

/// How byte-pair models come about: the merge table and what else is worked out once from the files.
namespace fastserve::model {

namespace {

std::string byte_token(int byte) {
  char text[8];
  std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
  return text;
}

}  // namespace

std::unique_ptr<bpe_model> bpe_model::from_merges(const vocabulary& tokens,
                                                  const std::vector<bpe_merge>& merges,
                                                  const bpe_options& options) {
  std::unique_ptr<bpe_model> model(new bpe_model);
  model->options_ = options;
  for (token_id id = 0; id < tokens.size(); ++id) {
    const std::string* token = tokens.token_of(id);
    if (token == nullptr) continue;
    if (!options.byte_level) {
      model->words_.insert(*token, id);
    } else if (const auto bytes = bytes_of_alphabet(*token)) {
      model->words_.insert(*bytes, id);
    }
  }
  model->index_bytes();

  std::vector<bool> is_fallback(static_cast<std::size_t>(tokens.size()), false);
  model->all_fallback_ = true;
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = tokens.id_of(byte_token(byte));
    model->fallback_[static_cast<std::size_t>(byte)] = id ? *id : no_symbol;
    if (!id) model->all_fallback_ = false;
    if (id) is_fallback[static_cast<std::size_t>(*id)] = true;
  }

  // Without all byte tokens, characters may be dropped or fused, which reaches over a cut.
  model->cuts_ = !options.byte_level && options.byte_fallback && model->all_fallback_;
  model->merges_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string& left = *tokens.token_of(merges[rank].left);
    const std::string& right = *tokens.token_of(merges[rank].right);
    const auto joined = tokens.id_of(left + right);
    if (!joined) {
      throw std::runtime_error("merge " + std::to_string(rank) + " joins " + in_quotes(left) + " and " +
                               in_quotes(right) + ", but " + in_quotes(left + right) + " is no token");
    }
    model->merges_.set(merges[rank].left, merges[rank].right, {static_cast<std::uint32_t>(rank), *joined});
    if (options.byte_level || left.empty() || right.empty()) continue;
    model->junctions_.add(utf8::back(left).code, utf8::at(right, 0).code);
    // A merge of byte tokens may join any characters that are not in the vocabulary.
    if (is_fallback[static_cast<std::size_t>(merges[rank].left)] ||
        is_fallback[static_cast<std::size_t>(merges[rank].right)]) {
      model->cuts_ = false;
    }
  }
  return model;
}

std::unique_ptr<bpe_model> bpe_model::from_ranks(const string_list& bytes) {
  std::unique_ptr<bpe_model> model(new bpe_model);
  model->options_.byte_level = true;
  model->options_.ignore_merges = true;
  for (std::size_t id = 0; id < bytes.size(); ++id) {
    if (!model->words_.insert(bytes[id], static_cast<token_id>(id))) {
      throw std::runtime_error("token of rank " + std::to_string(id) + " is listed twice");
    }
  }
  model->index_bytes();
  for (int byte = 0; byte < 256; ++byte) {
    if (model->start_of_byte_[static_cast<std::size_t>(byte)] == no_symbol) {
      throw std::runtime_error("no token for the single byte " + std::to_string(byte));
    }
  }
  for (std::size_t id = 0; id < bytes.size(); ++id) {
    const std::string_view whole = bytes[id];
    for (std::size_t cut = 1; cut < whole.size(); ++cut) {
      const std::int32_t left = model->words_.find(whole.substr(0, cut));
      if (left == string_table::none) continue;
      const std::int32_t right = model->words_.find(whole.substr(cut));
      if (right == string_table::none) continue;
      model->merges_.set(left, right, {static_cast<std::uint32_t>(id), static_cast<symbol_id>(id)});
    }
  }
  return model;
}

std::unique_ptr<bpe_model> bpe_model::from_scores(const std::vector<std::string>& pieces,
                                                  const std::vector<float>& scores,
                                                  const std::array<token_id, 256>& byte_pieces) {
  std::unique_ptr<bpe_model> model(new bpe_model);
  model->options_.byte_fallback = true;
  model->all_fallback_ = true;
  std::copy(byte_pieces.begin(), byte_pieces.end(), model->fallback_.begin());
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    if (!pieces[id].empty()) model->words_.insert(pieces[id], static_cast<token_id>(id));
  }
  // Characters inside of pieces that are no piece themselves still merge.
  model->first_loose_ = static_cast<symbol_id>(pieces.size());
  for (const std::string& piece : pieces) {
    for (std::size_t at = 0; at < piece.size(); at += utf8::length(piece[at])) {
      const std::string character = piece.substr(at, utf8::length(piece[at]));
      const auto fresh = static_cast<symbol_id>(model->first_loose_ + static_cast<int>(model->loose_.size()));
      if (model->words_.insert(character, fresh)) model->loose_.push_back(character);
    }
  }
  model->index_bytes();

  // Equal scores share a rank, so that the leftmost goes first.
  std::vector<std::size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] < scores[order[i - 1]]) ++rank;
    const std::string_view whole = pieces[order[i]];
    for (std::size_t cut = 1; cut < whole.size(); ++cut) {
      if (!utf8::is_lead(whole[cut])) continue;
      const std::int32_t left = model->words_.find(whole.substr(0, cut));
      const std::int32_t right = model->words_.find(whole.substr(cut));
      if (left == string_table::none || right == string_table::none) continue;
      model->merges_.set(left, right, {rank, static_cast<symbol_id>(order[i])});
      model->junctions_.add(utf8::back(whole.substr(0, cut)).code, utf8::at(whole, cut).code);
    }
  }
  model->cuts_ = true;
  return model;
}

}  // namespace fastserve::model
