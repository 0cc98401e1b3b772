#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <stdexcept>
#include <utility>

#include "model/tokenizer/bpe_model.hpp"
#include "model/tokenizer/charsmap.hpp"
#include "model/tokenizer/sentencepiece_proto.hpp"
#include "model/tokenizer/token_decoder.hpp"
#include "model/tokenizer/tokenizer_files.hpp"

namespace fastserve::model {

namespace {

using kind = sentencepiece_proto::piece_kind;

// Encoding by the library itself: the text between special tokens is one word to it.
class library_model final : public subword_model {
 public:
  explicit library_model(const std::string& content) {
    const auto status = processor_.LoadFromSerializedProto(content);
    if (!status.ok()) {
      throw std::runtime_error("is refused by SentencePiece: " + in_quotes(status.message()));
    }
  }
  void encode(std::string_view word, encode_scratch&, std::vector<token_id>& out) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode({word.data(), word.size()}, &ids);
    if (!status.ok()) throw std::runtime_error("SentencePiece fails: " + in_quotes(status.message()));
    out.insert(out.end(), ids.begin(), ids.end());
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

// Ids of <0x00> to <0xFF>, if all are there.
std::optional<std::array<token_id, 256>> byte_pieces(const sentencepiece_proto& proto,
                                                     const vocabulary& tokens) {
  std::array<token_id, 256> out{};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    const auto id = tokens.id_of(name);
    if (!id || proto.pieces[static_cast<std::size_t>(*id)].kind != kind::byte) return std::nullopt;
    out[static_cast<std::size_t>(byte)] = *id;
  }
  return out;
}

// Byte-pair models without a character map (Llama, Mistral) are encoded by our own merging, with the same
// result and a hundred times faster on long texts; all others by the library.
bool is_plain_bpe(const sentencepiece_proto& proto) {
  const auto plain = [](const sentencepiece_proto::piece& piece) {
    if (piece.kind == kind::unused) return false;
    if (piece.kind != kind::user_defined) return true;
    // Within a user-defined piece white space is not normalized.
    return piece.text.find(' ') == std::string::npos && piece.text.find("\xE2\x96\x81") == std::string::npos;
  };
  return proto.model == sentencepiece_proto::model_kind::bpe && proto.byte_fallback &&
         proto.charsmap.empty() && std::all_of(proto.pieces.begin(), proto.pieces.end(), plain);
}

void choose_model(const sentencepiece_proto& proto, const std::string& content,
                  const tokenizer_config& config, tokenizer_parts& parts) {
  const auto bytes = byte_pieces(proto, parts.tokens);
  if (!is_plain_bpe(proto) || !bytes) {
    if (!proto.charsmap.empty()) charsmap{proto.charsmap};  // the library does not check it
    parts.model = std::make_unique<library_model>(content);
    return;
  }
  std::vector<std::string> pieces;
  std::vector<float> scores;
  for (const sentencepiece_proto::piece& piece : proto.pieces) {
    pieces.push_back(piece.kind == kind::normal ? piece.text : std::string());
    scores.push_back(piece.score);
  }
  parts.model = bpe_model::from_scores(pieces, scores, *bytes);
  // User-defined pieces are cut out of the normalized text and merge with nothing.
  parts.patterns_are_normalized = true;
  for (std::size_t id = 0; id < proto.pieces.size(); ++id) {
    if (proto.pieces[id].kind != kind::user_defined) continue;
    added_token token;
    token.content = proto.pieces[id].text;
    token.id = static_cast<token_id>(id);
    parts.added.push_back(std::move(token));
  }
  sentencepiece_options options;
  options.add_dummy_prefix = proto.add_dummy_prefix;
  options.remove_extra_whitespaces = proto.remove_extra_whitespaces;
  options.escape_whitespaces = proto.escape_whitespaces;
  options.treat_whitespace_as_suffix = proto.treat_whitespace_as_suffix;
  options.prefix_everywhere = config.legacy.value_or(true);
  parts.normalize = make_sentencepiece_normalizer(options);
}

std::optional<token_id> control_id(const sentencepiece_proto& proto, std::int64_t id) {
  if (id < 0 || id >= static_cast<std::int64_t>(proto.pieces.size())) return std::nullopt;
  if (proto.pieces[static_cast<std::size_t>(id)].kind != kind::control) return std::nullopt;
  return static_cast<token_id>(id);
}

}  // namespace

tokenizer_parts read_sentencepiece(const std::string& content, const tokenizer_config& config) {
  const sentencepiece_proto proto = parse_sentencepiece(content);
  tokenizer_parts parts;
  std::size_t unknown = 0;
  for (std::size_t id = 0; id < proto.pieces.size(); ++id) {
    const sentencepiece_proto::piece& piece = proto.pieces[id];
    parts.tokens.add(piece.text, static_cast<std::int64_t>(id));
    if (piece.kind == kind::unknown) ++unknown;
    if (piece.kind != kind::control && piece.kind != kind::unknown) continue;
    added_token token;
    token.content = piece.text;
    token.id = static_cast<token_id>(id);
    token.normalized = false;
    token.special = true;
    parts.added.push_back(std::move(token));
  }
  if (unknown != 1) {
    throw std::runtime_error("has " + std::to_string(unknown) + " unknown pieces, expected one");
  }
  choose_model(proto, content, config, parts);
  add_configured_tokens(parts, config);
  parts.bos = control_id(proto, proto.bos_id);
  parts.eos = control_id(proto, proto.eos_id);
  if (parts.bos) parts.before = {*parts.bos};

  token_decoder decoder;
  decoder.replace("\xE2\x96\x81", " ");
  decoder.byte_fallback();
  decoder.fuse();
  if (proto.add_dummy_prefix && !proto.treat_whitespace_as_suffix) decoder.strip(" ", 1, 0);
  parts.pieces = decoder.build(parts.tokens, parts.added);
  return parts;
}

}  // namespace fastserve::model
