#include "launch/utf8_text.hpp"

#include <unicode/uchar.h>

namespace fastserve::launch {

namespace {

constexpr std::string_view replacement = "\uFFFD";
constexpr std::string_view deleted = "\u2421";
constexpr char32_t zero_width_joiner = 0x200D;

bool extends(char32_t code) noexcept {
  return code == zero_width_joiner || char_columns(code) == 0 || (code >= 0x1F3FB && code <= 0x1F3FF);
}

}  // namespace

std::size_t sequence_bytes(unsigned char lead) noexcept {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead < 0xE0) return 2;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  if (lead >= 0xF0 && lead < 0xF5) return 4;
  return 0;
}

decoded_char decode_char(std::string_view text, std::size_t at) noexcept {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::size_t bytes = sequence_bytes(lead);
  if (bytes == 1) return {lead, 1, true};
  if (bytes == 0 || at + bytes > text.size()) return {};
  char32_t code = lead & (0xFFU >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[at + i]);
    if ((next & 0xC0U) != 0x80U) return {};
    code = (code << 6U) | (next & 0x3FU);
  }
  const bool overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (overlong || surrogate || code > 0x10FFFF) return {};
  return {code, bytes, true};
}

int char_columns(char32_t code) noexcept {
  if (code < 0x300) return code == 0xAD ? 0 : 1;
  const auto point = static_cast<UChar32>(code);
  switch (u_charType(point)) {
    case U_NON_SPACING_MARK:
    case U_ENCLOSING_MARK:
    case U_FORMAT_CHAR:
      return 0;
    default:
      break;
  }
  // Vowels and finals of Hangul stack onto the syllable before them.
  if (code >= 0x1160 && code <= 0x11FF) return 0;
  const int width = u_getIntPropertyValue(point, UCHAR_EAST_ASIAN_WIDTH);
  return width == U_EA_WIDE || width == U_EA_FULLWIDTH ? 2 : 1;
}

int text_columns(std::string_view text) noexcept {
  int columns = 0;
  for (std::size_t at = 0; at < text.size();) {
    const decoded_char c = decode_char(text, at);
    columns += c.valid ? char_columns(c.code) : 1;
    at += c.bytes;
  }
  return columns;
}

std::size_t next_cluster(std::string_view text, std::size_t at) noexcept {
  if (at >= text.size()) return text.size();
  decoded_char c = decode_char(text, at);
  at += c.bytes;
  if (c.code < 0x20) return at;  // nothing joins a tab or a line break
  while (at < text.size()) {
    const bool joined = c.code == zero_width_joiner;
    c = decode_char(text, at);
    if (!c.valid || c.code < 0x20 || (!joined && !extends(c.code))) break;
    at += c.bytes;
  }
  return at;
}

std::size_t previous_cluster(std::string_view text, std::size_t at) noexcept {
  // Clusters are defined forwards; a line break always parts them, so begin there.
  std::size_t start = at == 0 ? 0 : text.rfind('\n', at - 1);
  start = start == std::string_view::npos ? 0 : start;
  while (start < at) {
    const std::size_t next = next_cluster(text, start);
    if (next >= at) return start;
    start = next;
  }
  return 0;
}

std::string harmless_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const decoded_char c = decode_char(text, at);
    if (!c.valid) {
      out += replacement;
    } else if (c.code < 0x20 && c.code != '\n' && c.code != '\t') {
      out += "\xE2\x90";
      out += static_cast<char>(0x80 + c.code);
    } else if (c.code == 0x7F || (c.code >= 0x80 && c.code < 0xA0)) {
      out += c.code == 0x7F ? deleted : replacement;
    } else {
      out += text.substr(at, c.bytes);
    }
    at += c.bytes;
  }
  return out;
}

std::string repaired_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const decoded_char c = decode_char(text, at);
    out += c.valid ? text.substr(at, c.bytes) : replacement;
    at += c.bytes;
  }
  return out;
}

}  // namespace fastserve::launch
