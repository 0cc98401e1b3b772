#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fastserve::launch {

// UTF-8 as a terminal shows it.

/// One character at a position of a text.
struct decoded_char {
  char32_t code = 0xFFFD;
  std::size_t bytes = 1;  ///< to step over it; at least 1
  bool valid = false;     ///< false: broken or cut off there
};

/// Decodes strictly (no overlong forms, surrogates or values over U+10FFFF). `at` < text.size().
decoded_char decode_char(std::string_view text, std::size_t at) noexcept;

/// Bytes that a sequence with this first byte has; 0 when no sequence begins so.
std::size_t sequence_bytes(unsigned char lead) noexcept;

/// Columns of one character on a terminal: 0 (combining, format), 1, or 2 (East Asian wide, emoji).
int char_columns(char32_t code) noexcept;

/// Columns of a text without control characters; broken bytes count 1.
int text_columns(std::string_view text) noexcept;

/// Where the user-perceived character after `at` begins: one character with the combining marks, variation
/// selectors and joined characters that follow it.
std::size_t next_cluster(std::string_view text, std::size_t at) noexcept;
/// Where the one before `at` begins.
std::size_t previous_cluster(std::string_view text, std::size_t at) noexcept;

/// The text as it may be written to a terminal: control characters other than \n and \t become their pictures
/// (U+2400 and on) or U+FFFD, so that text from a model or a file cannot steer the terminal; broken bytes
/// become U+FFFD.
std::string harmless_text(std::string_view text);

/// The text with every broken byte replaced by U+FFFD.
std::string repaired_utf8(std::string_view text);

}  // namespace fastserve::launch
