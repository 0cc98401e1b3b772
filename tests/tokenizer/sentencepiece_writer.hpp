#pragma once

#include <cstring>
#include <string>
#include <vector>

namespace fastserve::model::test {

/// Writes SentencePiece models for tests: the few fields of ModelProto that matter.
class sentencepiece_writer {
 public:
  void piece(const std::string& text, float score, int kind) {
    std::string message;
    bytes(message, 1, text);
    number(message, 2 << 3 | 5);
    char raw[4];
    std::memcpy(raw, &score, 4);
    message.append(raw, 4);
    varint(message, 3, static_cast<std::uint64_t>(kind));
    bytes(out_, 1, message);
  }
  /// `kind`: 1 unigram, 2 byte-pair.
  std::string finish(int kind, bool byte_fallback, bool dummy_prefix, bool remove_extra,
                     bool suffix = false) {
    std::string trainer;
    varint(trainer, 3, static_cast<std::uint64_t>(kind));
    varint(trainer, 24, suffix ? 1 : 0);
    varint(trainer, 35, byte_fallback ? 1 : 0);
    bytes(out_, 2, trainer);
    std::string normalizer;
    bytes(normalizer, 1, "identity");
    varint(normalizer, 3, dummy_prefix ? 1 : 0);
    varint(normalizer, 4, remove_extra ? 1 : 0);
    bytes(out_, 3, normalizer);
    return out_;
  }

 private:
  static void number(std::string& out, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
  }
  static void varint(std::string& out, int field, std::uint64_t value) {
    number(out, static_cast<std::uint64_t>(field) << 3);
    number(out, value);
  }
  static void bytes(std::string& out, int field, const std::string& value) {
    number(out, static_cast<std::uint64_t>(field) << 3 | 2);
    number(out, value.size());
    out += value;
  }
  std::string out_;
};

}  // namespace fastserve::model::test
