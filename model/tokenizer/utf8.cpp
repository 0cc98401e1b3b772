#include "model/tokenizer/utf8.hpp"

#include <cstdint>
#include <cstring>

namespace fastserve::model::utf8 {

step look(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {state::whole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {state::broken, 1};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte is bounded further: no overlong forms, no surrogates, nothing above U+10FFFF.
  unsigned low = 0x80;
  unsigned high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < size; ++i) {
    if (i == bytes.size()) return {state::cut, i};
    if (byte(i) < low || byte(i) > high) return {state::broken, i};
    low = 0x80;
    high = 0xBF;
  }
  return {state::whole, size};
}

void append(std::string& out, char32_t code) {
  const auto push = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    push(code);
  } else if (code < 0x800) {
    push(0xC0 | code >> 6);
    push(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    push(0xE0 | code >> 12);
    push(0x80 | (code >> 6 & 0x3F));
    push(0x80 | (code & 0x3F));
  } else {
    push(0xF0 | code >> 18);
    push(0x80 | (code >> 12 & 0x3F));
    push(0x80 | (code >> 6 & 0x3F));
    push(0x80 | (code & 0x3F));
  }
}

namespace {

// Bytes at the start that are ASCII for certain, eight at a time.
std::size_t ascii_prefix(std::string_view text) {
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, 8);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  return at;
}

}  // namespace

bool ascii(std::string_view text) {
  for (std::size_t at = ascii_prefix(text); at < text.size(); ++at) {
    if (static_cast<unsigned char>(text[at]) >= 0x80) return false;
  }
  return true;
}

bool valid(std::string_view text) {
  while (!text.empty()) {
    text.remove_prefix(ascii_prefix(text));
    // At most eight characters by hand before the fast check is tried again.
    for (int i = 0; i < 8 && !text.empty(); ++i) {
      const step next = look(text);
      if (next.kind != state::whole) return false;
      text.remove_prefix(next.size);
    }
  }
  return true;
}

std::string repaired(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const step next = look(text);
    if (next.kind == state::whole) {
      out.append(text.substr(0, next.size));
    } else {
      append(out, replacement);
    }
    text.remove_prefix(next.size);
  }
  return out;
}

}  // namespace fastserve::model::utf8
