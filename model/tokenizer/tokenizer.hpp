#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/decode_table.hpp"
#include "model/tokenizer/token_id.hpp"

namespace fastserve::model {

/// Text to tokens and back, as a model's files define it. Immutable after loading; every member may be called
/// by several threads at once.
///
/// Exact against the Hugging Face `tokenizers` library for what both read. One difference is meant: bytes
/// that are no UTF-8 become U+FFFD by Unicode's rule (one for each longest ill-formed part) in every decode,
/// where the library's ByteFallback decoder gives up a whole run of byte tokens if any of it is ill-formed.
class tokenizer {
 public:
  virtual ~tokenizer() = default;

  /// Tokens of a text of at most 1 GiB. Ill-formed UTF-8 is read as U+FFFD. `add_special` adds what the
  /// model's files put around a text (BOS, EOS, [CLS] ...). Special tokens written in the text are parsed as
  /// such.
  virtual std::vector<token_id> encode(std::string_view text, bool add_special) const = 0;

  /// How tokens turn back into bytes. The members below are written in its terms.
  virtual const decode_table& pieces() const = 0;

  /// The id of a token as the files write it ("<s>", "\u0120the", "\u2581the", "##ing").
  virtual std::optional<token_id> token_to_id(std::string_view token) const = 0;
  /// What the files call the beginning and the end of a text, if they do.
  virtual std::optional<token_id> bos() const = 0;
  virtual std::optional<token_id> eos() const = 0;

  /// Text of a whole token sequence. Ids without a token are left out, as in the reference library.
  std::string decode(std::span<const token_id> ids, bool skip_special) const;

  /// Raw bytes of a token as it stands in the middle of a text; perhaps a part of a UTF-8 character. Empty
  /// for an id without a token.
  std::string piece(token_id id) const { return std::string(pieces().piece(id, false)); }

  /// One more than the largest id. A model's embedding may have more rows.
  std::int32_t vocab_size() const { return pieces().size(); }
  bool is_special(token_id id) const { return pieces().special(id); }
};

/// The tokenizer of a model folder, from the first of these that is there: tokenizer.json; tokenizer.model
/// (SentencePiece, or tiktoken's lines of base64 and rank); vocab.json + merges.txt; encoder.json +
/// vocab.bpe; vocab.txt (WordPiece). tokenizer_config.json, special_tokens_map.json and the older
/// added_tokens.json add tokens, BOS and EOS. Throws std::runtime_error, one line that names the file, if
/// there is none or one is malformed.
std::unique_ptr<tokenizer> load_tokenizer(const std::filesystem::path& model_dir);

}  // namespace fastserve::model
