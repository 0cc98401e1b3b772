#include "model/tokenizer/sentencepiece_proto.hpp"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "model/tokenizer/token_id.hpp"
#include "model/tokenizer/utf8.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace fastserve::model {

namespace {

[[noreturn]] void malformed(const char* what) {
  throw std::runtime_error(std::string("is no SentencePiece model: ") + what);
}

// Protocol Buffers' wire format: fields of number, type and value.
class wire_reader {
 public:
  explicit wire_reader(std::string_view bytes) : left_(bytes) {}

  struct field {
    std::uint64_t number = 0;
    std::uint64_t integer = 0;  // varint
    std::string_view bytes;     // length-delimited, 32 bits or 64 bits
    unsigned type = 0;

    bool flag() const {
      if (type != 0) malformed("a flag of the wrong type");
      return integer != 0;
    }
    std::int64_t number_value() const {
      if (type != 0) malformed("a number of the wrong type");
      return static_cast<std::int64_t>(integer);
    }
    std::string_view message() const {
      if (type != 2) malformed("a string or message of the wrong type");
      return bytes;
    }
    float real() const {
      if (type != 5) malformed("a score of the wrong type");
      float value = 0;
      std::memcpy(&value, bytes.data(), 4);
      return value;
    }
  };

  bool next(field& out) {
    if (left_.empty()) return false;
    const std::uint64_t key = varint();
    out = {};
    out.number = key >> 3;
    out.type = static_cast<unsigned>(key & 7);
    switch (out.type) {
      case 0:
        out.integer = varint();
        break;
      case 1:
        out.bytes = take(8);
        break;
      case 2:
        out.bytes = take(varint());
        break;
      case 5:
        out.bytes = take(4);
        break;
      default:
        malformed("an unknown wire type");
    }
    return true;
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (left_.empty()) malformed("it ends within a number");
      const auto byte = static_cast<unsigned char>(left_.front());
      left_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    malformed("a number of more than 64 bits");
  }
  std::string_view take(std::uint64_t size) {
    if (size > left_.size()) malformed("a field that reaches past the end");
    const std::string_view out = left_.substr(0, static_cast<std::size_t>(size));
    left_.remove_prefix(static_cast<std::size_t>(size));
    return out;
  }
  std::string_view left_;
};

sentencepiece_proto::piece parse_piece(std::string_view bytes) {
  sentencepiece_proto::piece out;
  wire_reader reader(bytes);
  for (wire_reader::field field; reader.next(field);) {
    if (field.number == 1) out.text = field.message();
    if (field.number == 2) out.score = field.real();
    if (field.number == 3) {
      const std::int64_t kind = field.number_value();
      if (kind < 1 || kind > 6) malformed("a piece of unknown type");
      out.kind = static_cast<sentencepiece_proto::piece_kind>(kind);
    }
  }
  constexpr std::size_t longest_bytes = 1024;
  if (out.text.empty() || out.text.size() > longest_bytes || !utf8::valid(out.text)) {
    malformed("a piece that is empty, too long or no UTF-8");
  }
  if (!std::isfinite(out.score)) malformed("a score that is no number");
  return out;
}

void parse_trainer(std::string_view bytes, sentencepiece_proto& out) {
  wire_reader reader(bytes);
  for (wire_reader::field field; reader.next(field);) {
    switch (field.number) {
      case 3: {
        const std::int64_t kind = field.number_value();
        if (kind < 1 || kind > 4) malformed("an unknown model type");
        out.model = static_cast<sentencepiece_proto::model_kind>(kind);
        break;
      }
      case 24:
        out.treat_whitespace_as_suffix = field.flag();
        break;
      case 35:
        out.byte_fallback = field.flag();
        break;
      // int32: negative values are sign-extended to 64 bits.
      case 41:
        out.bos_id = field.number_value();
        break;
      case 42:
        out.eos_id = field.number_value();
        break;
      default:
        break;
    }
  }
}

void parse_normalizer(std::string_view bytes, sentencepiece_proto& out) {
  wire_reader reader(bytes);
  for (wire_reader::field field; reader.next(field);) {
    if (field.number == 2) out.charsmap = field.message();
    if (field.number == 3) out.add_dummy_prefix = field.flag();
    if (field.number == 4) out.remove_extra_whitespaces = field.flag();
    if (field.number == 5) out.escape_whitespaces = field.flag();
  }
}

}  // namespace

sentencepiece_proto parse_sentencepiece(std::string_view bytes) {
  sentencepiece_proto out;
  wire_reader reader(bytes);
  for (wire_reader::field field; reader.next(field);) {
    if (field.number == 1) {
      if (out.pieces.size() == static_cast<std::size_t>(max_vocab_tokens)) malformed("too many pieces");
      out.pieces.push_back(parse_piece(field.message()));
    }
    if (field.number == 2) parse_trainer(field.message(), out);
    if (field.number == 3) parse_normalizer(field.message(), out);
  }
  if (out.pieces.empty()) malformed("no pieces");
  return out;
}

}  // namespace fastserve::model
