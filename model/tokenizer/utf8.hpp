#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// UTF-8 by hand: the tokenizers walk text byte by byte and want no library call on the way.
namespace fastserve::model::utf8 {

constexpr char32_t replacement = 0xFFFD;

/// What stands at the start of a byte string.
enum class state {
  whole,   ///< one well-formed character
  broken,  ///< bytes that no continuation makes well-formed
  cut,     ///< the proper beginning of a character: more bytes may complete it
};

/// `size` bytes in that state. For `broken` it is the longest ill-formed prefix that one U+FFFD replaces
/// (Unicode 15, section 3.9, "maximal subpart").
struct step {
  state kind;
  std::size_t size;
};

/// Looks at the start of `bytes`, which must not be empty.
step look(std::string_view bytes);

/// One character of text known to be well-formed.
struct character {
  char32_t code;
  std::size_t size;
};

/// The character at `text[at]`. `text` must be well-formed UTF-8 and `at` a character's first byte.
inline character at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1Fu) << 6 | (byte(1) & 0x3Fu), 2};
  if (lead < 0xF0) return {(lead & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu), 3};
  return {(lead & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu), 4};
}

/// Bytes of the character that starts with `lead` in well-formed text.
inline std::size_t length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// True where a character may start: any byte but a continuation byte.
inline bool is_lead(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

/// The last character of well-formed, non-empty text.
inline character back(std::string_view text) {
  std::size_t start = text.size() - 1;
  while (start > 0 && !is_lead(text[start])) --start;
  return at(text, start);
}

/// Appends one character.
void append(std::string& out, char32_t code);

/// True for text of well-formed UTF-8.
bool valid(std::string_view text);

/// The text with every ill-formed part replaced by U+FFFD.
std::string repaired(std::string_view text);

/// True if no byte is above 0x7F.
bool ascii(std::string_view text);

}  // namespace fastserve::model::utf8
