#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fastserve::model {

/// The part of SentencePiece's ModelProto (sentencepiece_model.proto, proto2) that encoding depends on. The
/// library keeps these to itself, so the few fields are read here.
struct sentencepiece_proto {
  enum class piece_kind { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  enum class model_kind { unigram = 1, bpe = 2, word = 3, character = 4 };
  struct piece {
    std::string text;
    float score = 0;
    piece_kind kind = piece_kind::normal;
  };
  std::vector<piece> pieces;
  model_kind model = model_kind::unigram;
  bool byte_fallback = false;
  bool treat_whitespace_as_suffix = false;
  std::int64_t bos_id = 1;
  std::int64_t eos_id = 2;
  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

/// Throws std::runtime_error for bytes that are no such message, for a piece that is empty, too long or no
/// UTF-8, and for a score that is not finite.
sentencepiece_proto parse_sentencepiece(std::string_view bytes);

}  // namespace fastserve::model
