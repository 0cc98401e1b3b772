#include "model/tokenizer/byte_alphabet.hpp"

#include <array>

#include "model/tokenizer/utf8.hpp"

namespace fastserve::model {

namespace {

struct alphabet {
  std::array<char32_t, 256> character{};
  std::array<int, 0x144> byte{};

  alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (char32_t i = 0; i < 256; ++i) {
      const bool printable = (i >= 0x21 && i <= 0x7E) || (i >= 0xA1 && i <= 0xFF && i != 0xAD);
      character[i] = printable ? i : next++;
      byte[character[i]] = static_cast<int>(i);
    }
  }
};

const alphabet& table() {
  static const alphabet made;
  return made;
}

}  // namespace

std::optional<std::string> bytes_of_alphabet(std::string_view token) {
  std::string out;
  for (std::size_t i = 0; i < token.size();) {
    const utf8::character c = utf8::at(token, i);
    if (c.code >= table().byte.size() || table().byte[c.code] < 0) return std::nullopt;
    out.push_back(static_cast<char>(table().byte[c.code]));
    i += c.size;
  }
  return out;
}

std::string alphabet_of_bytes(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) utf8::append(out, table().character[static_cast<unsigned char>(byte)]);
  return out;
}

}  // namespace fastserve::model
