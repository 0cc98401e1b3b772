#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/tokenizer/bpe_merge.hpp"
#include "model/tokenizer/junction_filter.hpp"
#include "model/tokenizer/string_table.hpp"
#include "model/tokenizer/subword_model.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

/// What varies between byte-pair models. Names as in tokenizer.json.
struct bpe_options {
  bool byte_level = false;     ///< words are bytes; the vocabulary is written in the byte-level alphabet
  bool byte_fallback = false;  ///< unknown characters become <0x00> ... <0xFF>
  bool fuse_unk = false;       ///< a run of unknown characters is one unknown token
  bool ignore_merges = false;  ///< a word that is a token is that token, whatever the merges say
  std::optional<token_id> unk;
};

/// One merge as its file says it: the tokens to join, in order of rank.
struct bpe_merge {
  token_id left;
  token_id right;
};

/// Byte-pair encoding over bytes or over characters.
class bpe_model final : public subword_model {
 public:
  /// As in tokenizer.json. Throws std::runtime_error if a joined pair is no token.
  static std::unique_ptr<bpe_model> from_merges(const vocabulary& tokens,
                                                const std::vector<bpe_merge>& merges,
                                                const bpe_options& options);

  /// As in tiktoken: any two tokens whose bytes together are a token may merge; its id is the rank. `bytes`
  /// are the tokens' raw bytes in order of id.
  static std::unique_ptr<bpe_model> from_ranks(const string_list& bytes);

  /// As in SentencePiece: any two strings that together are a piece may merge, the highest score first. Only
  /// for models of normal pieces with all 256 byte pieces. `pieces[i]` is empty for a piece that text cannot
  /// become.
  static std::unique_ptr<bpe_model> from_scores(const std::vector<std::string>& pieces,
                                                const std::vector<float>& scores,
                                                const std::array<token_id, 256>& byte_pieces);

  void encode(std::string_view word, encode_scratch& scratch, std::vector<token_id>& out) const override;

 private:
  bpe_model() = default;
  void index_bytes();
  void encode_part(std::string_view part, encode_scratch& scratch, std::vector<token_id>& out) const;
  void start_bytes(std::string_view part, std::vector<symbol_id>& symbols) const;
  void start_characters(std::string_view part, std::vector<symbol_id>& symbols) const;
  bool start_fallback(std::string_view character, std::vector<symbol_id>& symbols) const;
  void emit(const std::vector<symbol_id>& symbols, std::vector<token_id>& out) const;

  bpe_options options_;
  string_table words_;  // raw bytes if byte_level, else text
  merge_table merges_;
  std::array<symbol_id, 256>
      start_of_byte_{};                    // byte_level: first symbol of a byte; else of an ASCII character
  std::array<symbol_id, 256> fallback_{};  // <0xNN>, or -1
  bool all_fallback_ = false;
  bool cuts_ = false;  // the text may be cut where junctions_ says no
  junction_filter junctions_;
  // Characters that occur in pieces but are none themselves: symbols from first_loose_ on.
  symbol_id first_loose_ = 0;
  std::vector<std::string> loose_;
};

}  // namespace fastserve::model
